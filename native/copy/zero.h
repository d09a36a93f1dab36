// SPDX-License-Identifier: MIT
// Is a block all zero? Asked of every block on its way to the target, because
// zero blocks become holes there; the answer for data comes within a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace snapbak {

inline bool IsZero(const void* data, size_t length) {
  auto* at = static_cast<const uint8_t*>(data);
  constexpr size_t kStep = 256;
  for (; length >= kStep; at += kStep, length -= kStep) {
    uint64_t words[kStep / 8];
    std::memcpy(words, at, kStep);
    uint64_t any = 0;
    for (uint64_t word : words) any |= word;
    if (any != 0) return false;
  }
  for (; length > 0; length--) {
    if (*at++ != 0) return false;
  }
  return true;
}

}  // namespace snapbak
