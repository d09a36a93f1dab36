// SPDX-License-Identifier: MIT
// pread and pwrite to the last byte: the only places under copy/ where an
// interrupted or a short transfer is seen.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snapbak {

// Reads up to `length` bytes, `needed` of them at the least: direct I/O asks for
// whole sectors where a device or file may end before. 0, -errno, or -ENODATA
// for an end before `needed`.
int ReadAtLeast(int fd, void* data, size_t length, size_t needed, uint64_t offset);

// 0, -errno, or -ENODATA for the end of the file before `length` bytes.
int ReadAll(int fd, void* data, size_t length, uint64_t offset);

// 0 or -errno.
int WriteAll(int fd, const void* data, size_t length, uint64_t offset);

}  // namespace snapbak
