// SPDX-License-Identifier: MIT
// CRC32C (Castagnoli, RFC 3720): the processor's instruction where there is
// one (SSE 4.2, ARMv8 CRC), a table otherwise; chosen once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snapbak {

// `crc` is the result over the bytes before, 0 at the beginning.
uint32_t Crc32c(uint32_t crc, const void* data, size_t length);

// The table version, for tests and other processors.
uint32_t Crc32cPortable(uint32_t crc, const void* data, size_t length);

// "sse4.2", "armv8" or "table".
const char* Crc32cImplementation();

}  // namespace snapbak
