// SPDX-License-Identifier: MIT
// The mapping that driver and library share: header, bitmap, rings, slots.
// The driver's side creates it as a sealed memfd (nobody can shrink it under
// the other); the library's side adopts a descriptor, or maps the kernel's.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../kernel-module/core/snapbak_layout.h"
#include "unique_fd.h"

namespace snapbak {

class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  // Driver: a new sealed memory with the fixed header fields filled in and
  // every page present, so that no capture faults. `flags`: SNAPBAK_SETUP_. 0 or
  // -errno (-ENOMEM, -EINVAL for geometry or flags out of range).
  static int Create(uint64_t origin_size, uint32_t block_shift, uint32_t nr_slots, uint32_t flags,
                    uint32_t driver, SharedMemory* out);

  // Library: maps `fd` and checks the header against its own numbers. 0 or
  // -errno (-EPROTO for rubbish, -EPROTONOSUPPORT for another version).
  static int Adopt(UniqueFd fd, SharedMemory* out);

  // Library: the same with the kernel driver's memory, `map_size` bytes of its
  // control descriptor. Its pages are the kernel's: always there, never swapped.
  static int AdoptDevice(int fd, uint64_t map_size, SharedMemory* out);

  // The mapping cannot be swapped out; tried always, best effort.
  bool locked() const { return locked_; }

  bool valid() const { return base_ != nullptr; }
  int fd() const { return fd_.get(); }
  size_t size() const { return size_; }
  snapbak_shm* header() const { return reinterpret_cast<snapbak_shm*>(base_); }
  // The geometry as it was checked; later changes in the header do not matter.
  const snapbak_shm& geometry() const { return geometry_; }
  __u64* bitmap() const { return reinterpret_cast<__u64*>(base_ + geometry_.bitmap_off); }
  // The heat area, or null where none was asked for.
  __u32* heat() const {
    return geometry_.heat_off == 0 ? nullptr : reinterpret_cast<__u32*>(base_ + geometry_.heat_off);
  }
  uint8_t* slot(uint32_t index) const {
    return base_ + geometry_.slots_off + (static_cast<uint64_t>(index) << geometry_.block_shift);
  }
  // Bytes of `block`: the block size, or less for the last one.
  uint32_t block_bytes(uint64_t block) const;

  // The four views of the rings; each starts at position 0, before START.
  snapbak_ring EventRing() const;
  snapbak_ring FreeRing() const;

 private:
  int Map(int fd, size_t size);
  int MapLocked(size_t size);
  int Populate();
  int CheckLayout();
  void Unmap();

  UniqueFd fd_;
  uint8_t* base_ = nullptr;
  size_t size_ = 0;
  bool locked_ = false;
  snapbak_shm geometry_{};
};

}  // namespace snapbak
