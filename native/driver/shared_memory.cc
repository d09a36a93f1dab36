// SPDX-License-Identifier: MIT
#include "shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace snapbak {

namespace {

int PopulateRange(uint8_t* base, size_t size) {
  if (size == 0 || madvise(base, size, MADV_POPULATE_WRITE) == 0) return 0;
  if (errno != EINVAL) return errno == EFAULT ? -ENOMEM : -errno;
  // Linux before 5.14: the file's pages are allocated, so touching them cannot fail.
  for (size_t at = 0; at < size; at += SNAPBAK_PAGE) {
    static_cast<void>(*static_cast<volatile uint8_t*>(base + at));
  }
  return 0;
}

// Bytes that can be had without swapping, as the kernel estimates them.
uint64_t AvailableMemory() {
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  while (meminfo >> word) {
    uint64_t kib = 0;
    if (word == "MemAvailable:" && meminfo >> kib) return kib * 1024;
  }
  return UINT64_MAX;  // no such line: the allocation itself decides
}

// True if MADV_POPULATE_WRITE is there to find a lack of memory by itself.
bool CanPopulate() {
  // A null range: known advice succeeds, unknown advice is EINVAL.
  return madvise(nullptr, 0, MADV_POPULATE_WRITE) == 0;
}

}  // namespace

SharedMemory::SharedMemory(SharedMemory&& other) noexcept { *this = std::move(other); }

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  if (this != &other) {
    Unmap();
    fd_ = std::move(other.fd_);
    base_ = std::exchange(other.base_, nullptr);
    size_ = std::exchange(other.size_, 0);
    locked_ = other.locked_;
    geometry_ = other.geometry_;
  }
  return *this;
}

SharedMemory::~SharedMemory() { Unmap(); }

int SharedMemory::Map(int fd, size_t size) {
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return -errno;
  base_ = static_cast<uint8_t*>(base);
  size_ = size;
  return 0;
}

int SharedMemory::MapLocked(size_t size) {
  const int ret = Map(fd_.get(), size);
  if (ret != 0) return ret;
  // Before the pages come, so that they are locked as they come; best effort:
  // what the limit does not permit is not locked.
  locked_ = mlock2(base_, size_, MLOCK_ONFAULT) == 0;
  return Populate();
}

// Makes every page present, so that no capture and no drain faults later on,
// and a lack of memory shows here, as an error, not by SIGBUS.
int SharedMemory::Populate() {
  const size_t half = size_ / 2 / SNAPBAK_PAGE * SNAPBAK_PAGE;
  int first = 0;
  // Zeroing new pages is most of the cost; two threads share it.
  std::thread helper;
  try {
    helper = std::thread([&] { first = PopulateRange(base_, half); });
  } catch (const std::system_error&) {
    first = PopulateRange(base_, half);
  }
  const int second = PopulateRange(base_ + half, size_ - half);
  if (helper.joinable()) helper.join();
  return first != 0 ? first : second;
}

void SharedMemory::Unmap() {
  if (base_ != nullptr) munmap(base_, size_);
  base_ = nullptr;
  size_ = 0;
}

int SharedMemory::Create(uint64_t origin_size, uint32_t block_shift, uint32_t nr_slots, uint32_t flags,
                         uint32_t driver, SharedMemory* out) {
  SharedMemory memory;
  snapbak_shm& geometry = memory.geometry_;
  int ret = snapbak_layout_compute(&geometry, origin_size, block_shift, nr_slots, flags);
  if (ret != 0) return ret;
  geometry.magic = SNAPBAK_MAGIC;
  geometry.abi_version = SNAPBAK_ABI_VERSION;
  geometry.driver = driver;

  // Asking for more than there is must fail here, and not wake the OOM killer.
  if (geometry.map_size > AvailableMemory()) return -ENOMEM;
  memory.fd_.Reset(memfd_create("snapbak", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.fd_.valid()) return -errno;
  if (ftruncate(memory.fd_.get(), static_cast<off_t>(geometry.map_size)) != 0) return -errno;
  if (!CanPopulate()) {
    ret = posix_fallocate(memory.fd_.get(), 0, static_cast<off_t>(geometry.map_size));
    if (ret != 0) return ret == ENOSPC ? -ENOMEM : -ret;
  }
  if (fcntl(memory.fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return -errno;
  ret = memory.MapLocked(geometry.map_size);
  if (ret != 0) return ret;
  *memory.header() = geometry;
  *out = std::move(memory);
  return 0;
}

int SharedMemory::Adopt(UniqueFd fd, SharedMemory* out) {
  SharedMemory memory;
  memory.fd_ = std::move(fd);
  struct stat st;
  if (fstat(memory.fd_.get(), &st) != 0) return -errno;
  if (st.st_size < SNAPBAK_PAGE) return -EPROTO;
  // A driver that could shrink the memory under us could kill us with SIGBUS.
  const int seals = fcntl(memory.fd_.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return -EPROTO;
  int ret = memory.MapLocked(static_cast<size_t>(st.st_size));
  if (ret == 0) ret = memory.CheckLayout();
  if (ret != 0) return ret;
  *out = std::move(memory);
  return 0;
}

int SharedMemory::AdoptDevice(int fd, uint64_t map_size, SharedMemory* out) {
  if (map_size < SNAPBAK_PAGE || map_size > SIZE_MAX) return -EPROTO;
  SharedMemory memory;
  int ret = memory.Map(fd, static_cast<size_t>(map_size));
  if (ret == 0) ret = memory.CheckLayout();
  if (ret != 0) return ret;
  memory.locked_ = true;
  *out = std::move(memory);
  return 0;
}

// Keeps what the header says as it was checked.
int SharedMemory::CheckLayout() {
  geometry_ = *header();
  return snapbak_layout_check(&geometry_, size_);
}

uint32_t SharedMemory::block_bytes(uint64_t block) const {
  const uint64_t offset = block << geometry_.block_shift;
  const uint64_t rest = geometry_.origin_size - offset;
  const uint64_t full = 1ull << geometry_.block_shift;
  return static_cast<uint32_t>(rest < full ? rest : full);
}

snapbak_ring SharedMemory::EventRing() const {
  snapbak_ring ring{};
  ring.head = &header()->event_head.value;
  ring.tail = &header()->event_tail.value;
  ring.entries = base_ + geometry_.event_off;
  ring.nr = geometry_.nr_events;
  return ring;
}

snapbak_ring SharedMemory::FreeRing() const {
  snapbak_ring ring{};
  ring.head = &header()->free_head.value;
  ring.tail = &header()->free_tail.value;
  ring.entries = base_ + geometry_.free_off;
  ring.nr = geometry_.nr_free;
  return ring;
}

}  // namespace snapbak
