// SPDX-License-Identifier: MIT
// The `checksums` file, and the file target beside it.
#include <fcntl.h>
#include <sys/stat.h>

#include "copy-rig.h"
#include "native/copy/checksum_file.h"
#include "native/copy/file_target.h"

namespace snapbak {
namespace {

TEST(ChecksumFile, KeepsOneLittleEndianWordABlock) {
  TestFile file(0);
  ChecksumFile checksums(file.Duplicate());
  const uint32_t sums[2] = {0x11223344, 0xaabbccdd};
  ASSERT_EQ(0, checksums.Put(3, sums, 2));
  ASSERT_EQ(0, checksums.Flush());
  const std::vector<uint8_t> want = {0x44, 0x33, 0x22, 0x11, 0xdd, 0xcc, 0xbb, 0xaa};
  EXPECT_EQ(want, file.Read(12, 8));
  uint32_t back[3];
  ASSERT_EQ(0, checksums.Get(2, back, 3));
  EXPECT_EQ(0u, back[0]);  // a hole
  EXPECT_EQ(sums[0], back[1]);
  EXPECT_EQ(sums[1], back[2]);
}

TEST(ChecksumFile, SaysSoWhenItIsTooShort) {
  TestFile file(6);
  ChecksumFile checksums(file.Duplicate());
  uint32_t back[2];
  EXPECT_EQ(-ENODATA, checksums.Get(0, back, 2));
}

TEST(ChecksumFile, PassesTheErrorOfAWriteOn) {
  ChecksumFile full(UniqueFd(open("/dev/full", O_RDWR)));
  const uint32_t sum = 1;
  EXPECT_EQ(-ENOSPC, full.Put(0, &sum, 1));
}

TEST(FileTarget, WritesAndPunchesHoles) {
  TestFile file(RandomBytes(1 << 20, 1));
  FileTarget target(file.Duplicate(), false);
  const auto bytes = RandomBytes(100000, 2);
  ASSERT_EQ(0, target.Write(4096, bytes.data(), bytes.size()));
  EXPECT_EQ(bytes, file.Read(4096, bytes.size()));
  struct stat before, after;
  fstat(file.fd(), &before);
  ASSERT_EQ(0, target.WriteZeroes(512 * 1024 + 100, 300000));
  fstat(file.fd(), &after);
  EXPECT_EQ(std::vector<uint8_t>(300000, 0), file.Read(512 * 1024 + 100, 300000));
  EXPECT_LT(after.st_blocks, before.st_blocks);
  EXPECT_EQ(before.st_size, after.st_size);
  EXPECT_EQ(0, target.Flush());
}

TEST(FileTarget, TouchesNothingForZeroesWhereItIsFresh) {
  TestFile file(RandomBytes(4096, 3));
  FileTarget target(file.Duplicate(), true);
  ASSERT_EQ(0, target.WriteZeroes(0, 4096));
  EXPECT_EQ(RandomBytes(4096, 3), file.Read(0, 4096));
}

TEST(FileTarget, WritesZeroesWhereThereAreNoHoles) {
  UniqueFd full(open("/dev/full", O_RDWR));  // a character device: no fallocate, no BLKZEROOUT
  FileTarget target(std::move(full), false);
  EXPECT_EQ(-ENOSPC, target.WriteZeroes(0, 100000));
}

TEST(FileTarget, PassesErrorsOn) {
  TestFile file(4096);
  UniqueFd read_only(open(("/proc/self/fd/" + std::to_string(file.fd())).c_str(), O_RDONLY));
  FileTarget target(std::move(read_only), false);
  EXPECT_EQ(-EBADF, target.Write(0, "x", 1));
  EXPECT_EQ(-EBADF, target.WriteZeroes(0, 4096));
}

}  // namespace
}  // namespace snapbak
