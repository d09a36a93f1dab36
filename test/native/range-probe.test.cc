// SPDX-License-Identifier: MIT
// What libblkid finds on a device that has no descriptor: by its ends alone, in time that does not grow with
// it.
#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <string>

#include "native/blocks/range_probe.h"

namespace snapbak {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

// Zeroes, but for what a test puts there.
class Sparse : public ExportedDevice {
 public:
  explicit Sparse(uint64_t size) : size_(size) {}

  void Put(uint64_t offset, const std::string& bytes) { pieces_[offset] = bytes; }
  // A DOS table with one partition.
  void PutTable(uint8_t type, uint8_t first, uint16_t sectors) {
    std::string table(512, 0);
    const std::string entry = {0,
                               0,
                               0,
                               0,
                               static_cast<char>(type),
                               0,
                               0,
                               0,
                               static_cast<char>(first),
                               0,
                               0,
                               0,
                               static_cast<char>(sectors & 0xff),
                               static_cast<char>(sectors >> 8),
                               0,
                               0};
    table.replace(446, entry.size(), entry);
    table.replace(510, 2, "\x55\xaa");
    Put(0, table);
  }

  uint64_t size() const override { return size_; }
  bool read_only() const override { return true; }
  int Read(uint64_t offset, void* data, size_t length) override {
    if (error != 0) return error;
    read_bytes += length;
    memset(data, 0, length);
    for (const auto& [at, bytes] : pieces_) {
      const uint64_t begin = std::max(at, offset);
      const uint64_t end = std::min(at + bytes.size(), offset + length);
      if (begin < end)
        memcpy(static_cast<char*>(data) + (begin - offset), bytes.data() + (begin - at), end - begin);
    }
    return 0;
  }
  void Shutdown() override {}

  int error = 0;
  uint64_t read_bytes = 0;

 private:
  const uint64_t size_;
  std::map<uint64_t, std::string> pieces_;
};

RangeProbe Probed(Sparse* device, uint64_t offset, uint64_t length) {
  RangeProbe found;
  EXPECT_EQ(ProbeEndsOf({device, offset, length}, &found), 0);
  return found;
}

TEST(RangeProbe, FindsASignatureInAPartOfAHugeDevice) {
  Sparse device(uint64_t{1} << 50);
  const uint64_t at = (uint64_t{1} << 40) + 512;
  device.Put(at + 4086, "SWAPSPACE2");
  device.Put(at + 1024, std::string("\1\0\0\0\xff\xff\0\0", 8));
  EXPECT_EQ(Probed(&device, at, (uint64_t{1} << 49)).type, "swap");
  EXPECT_LE(device.read_bytes, 8 * kMiB);
  EXPECT_EQ(Probed(&device, at + 512, kMiB).type, "");
}

TEST(RangeProbe, FindsOneAtTheEnd) {
  Sparse device(64 * kMiB);
  // Linux RAID 0.90: its superblock is in the last 64 KiB that are whole
  device.Put(64 * kMiB - 65536, std::string("\xfc\x4e\x2b\xa9\0\0\0\0\x5a\0\0\0", 12));
  EXPECT_EQ(Probed(&device, 0, 64 * kMiB).type, "linux_raid_member");
}

TEST(RangeProbe, FindsNothingOnZeroesAndOnADeviceOfOneByte) {
  Sparse device(kMiB);
  EXPECT_EQ(Probed(&device, 0, kMiB).type, "");
  EXPECT_EQ(Probed(&device, kMiB - 1, 1).table, "");
}

TEST(RangeProbe, FindsPartitionsAndSaysWhichAreExtended) {
  Sparse device(kMiB);
  device.PutTable(0x83, 8, 1024);
  RangeProbe found = Probed(&device, 0, kMiB);
  EXPECT_EQ(found.table, "dos");
  ASSERT_EQ(found.partitions.size(), 1u);
  EXPECT_EQ(found.partitions[0].offset, 8u * 512);
  EXPECT_EQ(found.partitions[0].length, 1024u * 512);
  EXPECT_FALSE(found.partitions[0].extended);
  device.PutTable(0x05, 8, 1024);
  found = Probed(&device, 0, kMiB);
  ASSERT_EQ(found.partitions.size(), 1u);
  EXPECT_TRUE(found.partitions[0].extended);
}

TEST(RangeProbe, TellsWhatCannotBeRead) {
  Sparse device(kMiB);
  RangeProbe found;
  device.error = -ESHUTDOWN;
  EXPECT_EQ(ProbeEndsOf({&device, 0, kMiB}, &found), -ESHUTDOWN);
}

}  // namespace
}  // namespace snapbak
