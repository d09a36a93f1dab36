// SPDX-License-Identifier: MIT
// CRC32C over every block that goes to a target. The instruction has a latency
// of three cycles and a throughput of one, so three streams run side by side;
// their results are joined by shifting, as polynomials, over the length of the
// streams behind.
#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define SNAPBAK_CRC_TARGET __attribute__((target("sse4.2")))
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define SNAPBAK_CRC_TARGET __attribute__((target("+crc")))
#endif

namespace snapbak {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

// Tables for eight bytes a step: table[k][b] is byte b followed by k zero bytes.
constexpr std::array<std::array<uint32_t, 256>, 8> MakeSlices() {
  std::array<std::array<uint32_t, 256>, 8> table{};
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ kPolynomial : crc >> 1;
    table[0][b] = crc;
  }
  for (size_t k = 1; k < 8; k++) {
    for (size_t b = 0; b < 256; b++) {
      table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xff];
    }
  }
  return table;
}

constexpr auto kSlices = MakeSlices();

uint32_t Byte(uint32_t state, uint8_t byte) { return (state >> 8) ^ kSlices[0][(state ^ byte) & 0xff]; }

#ifdef SNAPBAK_CRC_TARGET

// a * b modulo the polynomial; bit 31 is x^0.
constexpr uint32_t Multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 0x80000000; bit != 0; bit >>= 1) {
    if (a & bit) product ^= b;
    b = b & 1 ? (b >> 1) ^ kPolynomial : b >> 1;
  }
  return product;
}

// x^(8 * bytes) modulo the polynomial: what `bytes` zero bytes multiply by.
constexpr uint32_t PowerOfBytes(uint64_t bytes) {
  uint32_t power = 0x80000000;
  uint32_t square = 0x00800000;  // x^8
  for (; bytes != 0; bytes >>= 1) {
    if (bytes & 1) power = Multiply(power, square);
    square = Multiply(square, square);
  }
  return power;
}

// The state after `bytes` further zero bytes, a byte of the state at a time.
struct Shift {
  std::array<std::array<uint32_t, 256>, 4> table{};

  constexpr explicit Shift(uint64_t bytes) {
    const uint32_t power = PowerOfBytes(bytes);
    for (uint32_t k = 0; k < 4; k++) {
      for (uint32_t b = 0; b < 256; b++) table[k][b] = Multiply(b << (8 * k), power);
    }
  }
  uint32_t operator()(uint32_t state) const {
    return table[0][state & 0xff] ^ table[1][state >> 8 & 0xff] ^ table[2][state >> 16 & 0xff] ^
           table[3][state >> 24];
  }
};

constexpr size_t kLong = 4096;  // bytes of one of three streams
constexpr size_t kShort = 256;
constexpr Shift kShiftLong(kLong);
constexpr Shift kShiftShort(kShort);

SNAPBAK_CRC_TARGET inline uint64_t Step(uint64_t state, const uint8_t* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof(word));
#if defined(__x86_64__)
  return _mm_crc32_u64(state, word);
#else
  return __crc32cd(static_cast<uint32_t>(state), word);
#endif
}

SNAPBAK_CRC_TARGET inline uint32_t ThreeStreams(uint32_t state, const uint8_t* data, size_t length,
                                                const Shift& shift) {
  uint64_t a = state, b = 0, c = 0;
  for (size_t i = 0; i < length; i += 8) {
    a = Step(a, data + i);
    b = Step(b, data + length + i);
    c = Step(c, data + 2 * length + i);
  }
  return shift(shift(static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b)) ^ static_cast<uint32_t>(c);
}

SNAPBAK_CRC_TARGET uint32_t Crc32cHardware(uint32_t crc, const void* data, size_t length) {
  auto* at = static_cast<const uint8_t*>(data);
  uint32_t state = ~crc;
  for (; length > 0 && reinterpret_cast<uintptr_t>(at) % 8 != 0; length--) state = Byte(state, *at++);
  for (; length >= 3 * kLong; at += 3 * kLong, length -= 3 * kLong) {
    state = ThreeStreams(state, at, kLong, kShiftLong);
  }
  for (; length >= 3 * kShort; at += 3 * kShort, length -= 3 * kShort) {
    state = ThreeStreams(state, at, kShort, kShiftShort);
  }
  for (; length >= 8; at += 8, length -= 8) state = static_cast<uint32_t>(Step(state, at));
  for (; length > 0; length--) state = Byte(state, *at++);
  return ~state;
}

bool HaveInstruction() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2");
#else
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}

#endif  // SNAPBAK_CRC_TARGET

using Function = uint32_t (*)(uint32_t, const void*, size_t);

Function Choose() {
#ifdef SNAPBAK_CRC_TARGET
  if (HaveInstruction()) return Crc32cHardware;
#endif
  return Crc32cPortable;
}

Function Chosen() {
  static const Function chosen = Choose();
  return chosen;
}

}  // namespace

uint32_t Crc32cPortable(uint32_t crc, const void* data, size_t length) {
  auto* at = static_cast<const uint8_t*>(data);
  uint32_t state = ~crc;
  for (; length >= 8; at += 8, length -= 8) {
    const uint32_t low = state ^ (static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8 |
                                  static_cast<uint32_t>(at[2]) << 16 | static_cast<uint32_t>(at[3]) << 24);
    state = kSlices[7][low & 0xff] ^ kSlices[6][low >> 8 & 0xff] ^ kSlices[5][low >> 16 & 0xff] ^
            kSlices[4][low >> 24] ^ kSlices[3][at[4]] ^ kSlices[2][at[5]] ^ kSlices[1][at[6]] ^
            kSlices[0][at[7]];
  }
  for (; length > 0; length--) state = Byte(state, *at++);
  return ~state;
}

uint32_t Crc32c(uint32_t crc, const void* data, size_t length) { return Chosen()(crc, data, length); }

const char* Crc32cImplementation() {
#if defined(__x86_64__)
  return Chosen() == Crc32cPortable ? "table" : "sse4.2";
#else
  return Chosen() == Crc32cPortable ? "table" : "armv8";
#endif
}

}  // namespace snapbak
