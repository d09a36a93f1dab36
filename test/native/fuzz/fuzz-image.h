// SPDX-License-Identifier: MIT
// A small origin in memory, and what its content must be: for the fuzzers.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "native/driver/engine.h"

// What must hold whatever a peer does; prints and aborts, so that the fuzzer keeps the input.
#define MUST(condition)                                                              \
  do {                                                                               \
    if (!(condition)) {                                                              \
      fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                       \
    }                                                                                \
  } while (0)

namespace snapbak {

class FuzzImage {
 public:
  static constexpr uint32_t kSize = 16 * 4096 + 100;

  FuzzImage() : model_(kSize) {
    fd_ = memfd_create("fuzz-image", MFD_CLOEXEC);
    MUST(fd_ >= 0);
    Reset();
    EngineOptions options;
    options.driver = SNAPBAK_DRIVER_USER;
    MUST(Engine::Open("/proc/self/fd/" + std::to_string(fd_), options, &engine_) == 0);
  }

  Engine* engine() { return engine_.get(); }

  // The same content at the start of every input.
  void Reset() {
    for (uint32_t i = 0; i < kSize; ++i) model_[i] = static_cast<uint8_t>(i * 7 + i / 4096 + 1);
    MUST(pwrite(fd_, model_.data(), kSize, 0) == kSize);
  }

  void Write(uint64_t offset, uint32_t length, uint8_t byte) {
    const std::vector<uint8_t> data(length, byte);
    const int ret = engine_->Write(data.data(), length, offset, false);
    const bool inside = offset <= kSize && length <= kSize - offset;
    MUST((ret == 0) == inside);
    if (inside) memset(model_.data() + offset, byte, length);
  }

  void WriteZeroes(uint64_t offset, uint64_t length, bool may_trim) {
    ZeroOptions options;
    options.may_trim = may_trim;
    const int ret = engine_->WriteZeroes(offset, length, options);
    const bool inside = offset <= kSize && length <= kSize - offset;
    MUST((ret == 0) == inside);
    if (inside) memset(model_.data() + offset, 0, length);
  }

  // A discard is advice: each byte keeps its value or becomes 0.
  void Discard(uint64_t offset, uint64_t length) {
    const int ret = engine_->Discard(offset, length, false);
    const bool inside = offset <= kSize && length <= kSize - offset;
    MUST((ret == 0) == inside);
    if (!inside) return;
    std::vector<uint8_t> now(length);
    MUST(pread(fd_, now.data(), length, static_cast<off_t>(offset)) == static_cast<ssize_t>(length));
    for (uint64_t i = 0; i < length; ++i) {
      MUST(now[i] == 0 || now[i] == model_[offset + i]);
      model_[offset + i] = now[i];
    }
  }

  // The origin holds the application's writes and nothing else.
  void Check() {
    std::vector<uint8_t> now(kSize);
    MUST(pread(fd_, now.data(), kSize, 0) == kSize);
    MUST(memcmp(now.data(), model_.data(), kSize) == 0);
    MUST(lseek(fd_, 0, SEEK_END) == kSize);
  }

 private:
  int fd_ = -1;
  std::vector<uint8_t> model_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace snapbak
