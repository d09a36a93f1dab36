// SPDX-License-Identifier: MIT
// An image for an engine, which opens it by its name.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "native/driver/unique_fd.h"

namespace snapbak {

// The path of a new one with these bytes, for the caller to unlink.
inline std::string TemporaryImage(const std::vector<uint8_t>& bytes) {
  char path[] = "/tmp/snapbak-image-XXXXXX";
  const UniqueFd file(mkstemp(path));
  EXPECT_TRUE(file.valid());
  EXPECT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return path;
}

}  // namespace snapbak
