// SPDX-License-Identifier: MIT
// Memory for O_DIRECT and for the data path: page-aligned, present from the
// start so that no copy faults it in, locked where that is permitted.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace snapbak {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~AlignedBuffer() {
    if (data_ != nullptr) munmap(data_, size_);
  }

  // 0 or -ENOMEM.
  int Allocate(size_t size) {
    void* memory =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return -ENOMEM;
    AlignedBuffer fresh;
    fresh.data_ = static_cast<uint8_t*>(memory);
    fresh.size_ = size;
    *this = std::move(fresh);
    return 0;
  }
  bool Lock() { return mlock(data_, size_) == 0; }

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace snapbak
