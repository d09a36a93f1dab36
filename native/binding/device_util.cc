// SPDX-License-Identifier: MIT
#include "device_util.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

#include "../copy/file_io.h"
#include "addon_data.h"
#include "convert.h"

namespace snapbak {

namespace {

struct ProbeCloser {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer<blkid_probe>::type, ProbeCloser>;

std::string Lookup(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  return blkid_probe_lookup_value(probe, name, &value, nullptr) == 0 && value != nullptr ? value : "";
}

// fallocate() alone leaves extents unwritten on some file systems; their first
// write would then change metadata while we must not wait for anything.
int Fill(int fd, uint64_t from, uint64_t bytes) {
  const int ret = posix_fallocate(fd, static_cast<off_t>(from), static_cast<off_t>(bytes));
  if (ret != 0) return -ret;
  const std::vector<uint8_t> zeroes(1 << 20, 0);
  const uint64_t end = from + bytes;
  for (uint64_t at = from; at < end;) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(zeroes.size(), end - at));
    const int error = WriteAll(fd, zeroes.data(), n, at);
    if (error != 0) return error;
    at += n;
  }
  return fdatasync(fd) == 0 ? 0 : -errno;
}

int FlushDevice(int fd) { return ioctl(fd, BLKFLSBUF, 0) == 0 ? 0 : -errno; }

int SyncFs(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return -errno;
  return syncfs(fd.get()) == 0 ? 0 : -errno;
}

}  // namespace

Napi::Value DeviceSize(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(ToU32(info[0], "fd"));
  struct stat st;
  if (fstat(fd, &st) != 0) throw MakeError(info.Env(), {-errno, "size"});
  if (!S_ISBLK(st.st_mode)) return Num(info.Env(), static_cast<uint64_t>(st.st_size));
  uint64_t bytes = 0;
  if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) throw MakeError(info.Env(), {-errno, "size"});
  return Num(info.Env(), bytes);
}

Napi::Value ProbeSignature(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>();
  errno = 0;
  Probe probe(blkid_new_probe_from_filename(path.c_str()));
  if (!probe) throw MakeError(env, {errno != 0 ? -errno : -EIO, "probe"});
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe.get(), 1);
  // 0: found; 1: nothing; -2: several kinds at once; -1: error
  const int ret = blkid_do_safeprobe(probe.get());
  if (ret == 1) return env.Null();
  if (ret == -1) throw MakeError(env, {errno != 0 ? -errno : -EIO, "probe"});
  std::string type = Lookup(probe.get(), "TYPE");
  std::string usage = Lookup(probe.get(), "USAGE");
  if (type.empty()) {
    const std::string table = Lookup(probe.get(), "PTTYPE");
    type = table.empty() ? "several signatures" : table;
    usage = table.empty() ? "ambivalent" : "partition table";
  }
  Napi::Object found = Napi::Object::New(env);
  found.Set("type", type);
  found.Set("usage", usage);
  return found;
}

Napi::Value Preallocate(const Napi::CallbackInfo& info) {
  auto fd = std::make_shared<UniqueFd>(DuplicateFd(info[0], "fd"));
  const uint64_t bytes = ToU64(info[1], "bytes");
  const uint64_t from = info[2].IsUndefined() ? 0 : ToU64(info[2], "from");
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([fd, from, bytes, settler] {
    settler.Settle({Fill(fd->get(), from, bytes), "preallocate"});
  });
  if (!accepted) settler.Settle({-EBADF, "preallocate"});
  return settler.promise();
}

Napi::Value FlushBuffers(const Napi::CallbackInfo& info) {
  auto fd = std::make_shared<UniqueFd>(DuplicateFd(info[0], "fd"));
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([fd, settler] {
    settler.Settle({FlushDevice(fd->get()), "flush"});
  });
  if (!accepted) settler.Settle({-EBADF, "flush"});
  return settler.promise();
}

void LockFile(const Napi::CallbackInfo& info) {
  const int fd = static_cast<int>(ToU32(info[0], "fd"));
  if (flock(fd, LOCK_EX | LOCK_NB) == 0) return;
  throw MakeError(info.Env(), {errno == EWOULDBLOCK ? -EBUSY : -errno, "lock"});
}

Napi::Value SyncFileSystem(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>();
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->flush->Run([path, settler] { settler.Settle({SyncFs(path), "syncfs"}); });
  if (!accepted) settler.Settle({-EBADF, "syncfs"});
  return settler.promise();
}

}  // namespace snapbak
