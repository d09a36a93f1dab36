// SPDX-License-Identifier: MIT
// Checksums on their way to and from the backup's `checksums` file. A copier
// comes here right after the target has taken the blocks.
#include "checksum_file.h"

#include <endian.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "file_io.h"

namespace snapbak {

int ChecksumFile::Put(uint64_t first_block, const uint32_t* sums, uint32_t count) {
#if __BYTE_ORDER == __LITTLE_ENDIAN
  return WriteAll(fd_.get(), sums, size_t{count} * sizeof(*sums), first_block * sizeof(*sums));
#else
  std::array<uint32_t, 256> swapped;
  while (count > 0) {
    const uint32_t n = std::min<uint32_t>(count, swapped.size());
    for (uint32_t i = 0; i < n; i++) swapped[i] = htole32(sums[i]);
    const int error = WriteAll(fd_.get(), swapped.data(), n * sizeof(*sums), first_block * sizeof(*sums));
    if (error != 0) return error;
    first_block += n, sums += n, count -= n;
  }
  return 0;
#endif
}

int ChecksumFile::Get(uint64_t first_block, uint32_t* sums, uint32_t count) {
  const int error = ReadAll(fd_.get(), sums, size_t{count} * sizeof(*sums), first_block * sizeof(*sums));
  if (error != 0) return error;
#if __BYTE_ORDER != __LITTLE_ENDIAN
  for (uint32_t i = 0; i < count; i++) sums[i] = le32toh(sums[i]);
#endif
  return 0;
}

int ChecksumFile::Flush() { return fsync(fd_.get()) == 0 ? 0 : -errno; }

}  // namespace snapbak
