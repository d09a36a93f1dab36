// SPDX-License-Identifier: MIT
#include "range_probe.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <type_traits>

#include "../copy/file_io.h"

namespace snapbak {

namespace {

constexpr uint64_t kUnit = 512;  // of libblkid's partitions, whatever the device's sectors are
constexpr uint64_t kEnd = uint64_t{4} << 20;

struct ProbeCloser {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer<blkid_probe>::type, ProbeCloser>;

int LastError() { return errno != 0 ? -errno : -EIO; }

std::string Lookup(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  return blkid_probe_lookup_value(probe, name, &value, nullptr) == 0 && value != nullptr ? value : "";
}

int Partitions(blkid_probe probe, std::vector<FoundPartition>* found) {
  blkid_partlist list = blkid_probe_get_partitions(probe);
  if (list == nullptr) return LastError();
  const int count = blkid_partlist_numof_partitions(list);
  for (int i = 0; i < count; ++i) {
    blkid_partition partition = blkid_partlist_get_partition(list, i);
    if (partition == nullptr) return LastError();
    FoundPartition one;
    one.number = blkid_partition_get_partno(partition);
    one.offset = static_cast<uint64_t>(blkid_partition_get_start(partition)) * kUnit;
    one.length = static_cast<uint64_t>(blkid_partition_get_size(partition)) * kUnit;
    one.extended = blkid_partition_is_extended(partition) != 0;
    one.type = blkid_partition_get_type(partition);
    found->push_back(one);
  }
  return 0;
}

// libblkid looks no further than a physical volume of LVM. Its label and metadata outlive what comes after
// them (a zpool leaves the first 8 KiB alone), and what the metadata call free extents is another's data
// then.
bool HasMoreThanLvm(blkid_probe probe) {
  char lvm[] = "LVM2_member";
  char* names[] = {lvm, nullptr};
  blkid_reset_probe(probe);
  if (blkid_probe_filter_superblocks_type(probe, BLKID_FLTR_NOTIN, names) != 0) return true;
  return blkid_do_safeprobe(probe) != 1;  // anything at all
}

int CopyPart(const SourceRange& range, uint64_t begin, uint64_t end, int to) {
  std::vector<uint8_t> buffer(uint64_t{1} << 18);
  for (uint64_t at = begin; at < end; at += buffer.size()) {
    const size_t bytes = static_cast<size_t>(std::min<uint64_t>(buffer.size(), end - at));
    int error = range.Read(at, buffer.data(), bytes);
    if (error == 0) error = WriteAll(to, buffer.data(), bytes, at);
    if (error != 0) return error;
  }
  return 0;
}

}  // namespace

int ProbeRangeOf(int fd, uint64_t offset, uint64_t length, RangeProbe* found) {
  errno = 0;
  Probe probe(blkid_new_probe());
  if (!probe) return LastError();
  if (blkid_probe_set_device(probe.get(), fd, static_cast<blkid_loff_t>(offset),
                             static_cast<blkid_loff_t>(length)) != 0) {
    return LastError();
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe.get(), 1);
  // 0: found; 1: nothing; -2: several kinds at once; -1: error
  const int ret = blkid_do_safeprobe(probe.get());
  if (ret == 1) return 0;
  if (ret == -1) return LastError();
  found->several = ret == -2;
  found->type = Lookup(probe.get(), "TYPE");
  found->usage = Lookup(probe.get(), "USAGE");
  found->table = Lookup(probe.get(), "PTTYPE");
  if (found->type == "LVM2_member" && HasMoreThanLvm(probe.get())) found->several = true;
  return found->several || found->table.empty() ? 0 : Partitions(probe.get(), &found->partitions);
}

int ProbeEndsOf(const SourceRange& range, RangeProbe* found) {
  const UniqueFd ends(memfd_create("snapbak-probe", MFD_CLOEXEC));
  if (!ends.valid() || ftruncate(ends.get(), static_cast<off_t>(range.length)) != 0) return -errno;
  const uint64_t head = std::min(kEnd, range.length);
  int error = CopyPart(range, 0, head, ends.get());
  if (error == 0) error = CopyPart(range, std::max(head, range.length - head), range.length, ends.get());
  return error != 0 ? error : ProbeRangeOf(ends.get(), 0, range.length, found);
}

}  // namespace snapbak
