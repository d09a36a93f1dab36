// SPDX-License-Identifier: MIT
// CRC32C: the published vectors, and the hardware's answer against the table's.
#include "native/copy/crc32c.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "native/copy/zero.h"

namespace snapbak {
namespace {

struct Vector {
  std::vector<uint8_t> bytes;
  uint32_t crc;
};

// RFC 3720, appendix B.4, and the check value of the polynomial's catalogue entry.
std::vector<Vector> Vectors() {
  std::vector<Vector> vectors = {{std::vector<uint8_t>(32, 0x00), 0x8a9136aa},
                                 {std::vector<uint8_t>(32, 0xff), 0x62a8ab43},
                                 {{}, 0x46dd794e},
                                 {{}, 0x113fdb5c},
                                 {{'1', '2', '3', '4', '5', '6', '7', '8', '9'}, 0xe3069283},
                                 {{}, 0x00000000}};
  for (int i = 0; i < 32; i++) {
    vectors[2].bytes.push_back(static_cast<uint8_t>(i));
    vectors[3].bytes.push_back(static_cast<uint8_t>(31 - i));
  }
  return vectors;
}

TEST(Crc32c, GivesThePublishedValues) {
  for (const Vector& v : Vectors()) {
    EXPECT_EQ(v.crc, Crc32c(0, v.bytes.data(), v.bytes.size()));
    EXPECT_EQ(v.crc, Crc32cPortable(0, v.bytes.data(), v.bytes.size()));
  }
}

TEST(Crc32c, IsTheSameFromHardwareAndTableAtEveryAlignmentAndLength) {
  std::vector<uint8_t> bytes(200000);
  std::mt19937 random(1);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random());
  for (size_t start = 0; start < 16; start++) {
    for (size_t length = 0; length < 900; length++) {
      ASSERT_EQ(Crc32cPortable(7, &bytes[start], length), Crc32c(7, &bytes[start], length))
          << start << " " << length;
    }
    for (size_t length : {1023u, 4096u, 12287u, 12288u, 12289u, 65536u, 131072u, 199000u}) {
      ASSERT_EQ(Crc32cPortable(0, &bytes[start], length), Crc32c(0, &bytes[start], length))
          << start << " " << length;
    }
  }
}

TEST(Crc32c, GoesOnWhereAnEarlierCallEnded) {
  std::vector<uint8_t> bytes(100000, 0x5a);
  const uint32_t whole = Crc32c(0, bytes.data(), bytes.size());
  for (size_t cut : {0u, 1u, 7u, 4096u, 50001u, 100000u}) {
    EXPECT_EQ(whole, Crc32c(Crc32c(0, bytes.data(), cut), bytes.data() + cut, bytes.size() - cut));
  }
}

TEST(Crc32c, NamesWhatItRunsOn) {
  const std::string name = Crc32cImplementation();
  EXPECT_TRUE(name == "sse4.2" || name == "armv8" || name == "table") << name;
}

TEST(IsZero, SeesOneBitAnywhere) {
  std::vector<uint8_t> bytes(1500, 0);
  for (size_t length : {0u, 1u, 255u, 256u, 257u, 1500u}) {
    EXPECT_TRUE(IsZero(bytes.data(), length));
    for (size_t at = 0; at < length; at++) {
      bytes[at] = 0x80;
      ASSERT_FALSE(IsZero(bytes.data(), length)) << at << " of " << length;
      ASSERT_TRUE(IsZero(bytes.data(), at));
      bytes[at] = 0;
    }
  }
}

}  // namespace
}  // namespace snapbak
