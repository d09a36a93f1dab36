// SPDX-License-Identifier: MIT
// What the tests of native/copy share: files that go away, a target in memory
// that can be told to fail, a log of notices, and a driver played by the test.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <vector>

#include "kernel-module/core/snapbak_hints.h"
#include "native/copy/copy_session.h"

namespace snapbak {

// A file without a name; `fd()` stays open as long as the test looks at it.
class TestFile {
 public:
  explicit TestFile(uint64_t size) : fd_(memfd_create("snapbak-test", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
    EXPECT_EQ(0, ftruncate(fd_.get(), static_cast<off_t>(size)));
  }
  explicit TestFile(const std::vector<uint8_t>& bytes) : TestFile(bytes.size()) {
    EXPECT_EQ(static_cast<ssize_t>(bytes.size()), pwrite(fd_.get(), bytes.data(), bytes.size(), 0));
  }
  int fd() const { return fd_.get(); }
  UniqueFd Duplicate() const { return UniqueFd(dup(fd_.get())); }
  // From now on writes fail with EPERM, through every descriptor; reads do not.
  void RefuseWrites() const { ASSERT_EQ(0, fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_WRITE)); }
  UniqueFd ReadOnly() const {
    return UniqueFd(open(("/proc/self/fd/" + std::to_string(fd_.get())).c_str(), O_RDONLY));
  }
  std::vector<uint8_t> Read(uint64_t offset, size_t length) const {
    std::vector<uint8_t> bytes(length);
    EXPECT_EQ(static_cast<ssize_t>(length),
              pread(fd_.get(), bytes.data(), length, static_cast<off_t>(offset)));
    return bytes;
  }

 private:
  UniqueFd fd_;
};

inline std::vector<uint8_t> RandomBytes(size_t length, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; i += 8) {
    const uint64_t word = random();
    std::memcpy(&bytes[i], &word, std::min<size_t>(8, length - i));
  }
  return bytes;
}

class MemoryTarget : public Target {
 public:
  static constexpr uint8_t kUntouched = 0xa5;

  explicit MemoryTarget(size_t size) : bytes(size, kUntouched) {}

  int Write(uint64_t offset, const void* data, size_t length) override {
    const int error = Enter(offset);
    if (error == 0) std::memcpy(&bytes[offset], data, length);
    return error;
  }
  int WriteZeroes(uint64_t offset, uint64_t length) override {
    const int error = Enter(offset);
    if (error == 0) std::memset(&bytes[offset], 0, length);
    zeroed += length;
    return error;
  }
  int Flush() override { return 0; }
  bool readable() const override { return may_be_read; }
  int Read(uint64_t offset, void* data, size_t length, const std::atomic<bool>& stop) override {
    if (before_read) before_read(stop);
    if (stop) return -ECANCELED;
    std::memcpy(data, &bytes[offset], length);
    reads++;
    return 0;
  }

  // The next `times` calls fail.
  void FailNext(int times, int error) {
    std::lock_guard lock(mutex_);
    failures_ = times;
    error_ = error;
  }
  // Calls wait inside until opened.
  void Shut() {
    std::lock_guard lock(mutex_);
    shut_ = true;
  }
  void Open() {
    std::lock_guard lock(mutex_);
    shut_ = false;
    changed_.notify_all();
  }
  void AwaitInside(int calls) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(30), [&] { return inside_ >= calls; }));
  }

  // Offsets of the calls so far.
  std::vector<uint64_t> Order() {
    std::lock_guard lock(mutex_);
    return order_;
  }

  std::vector<uint8_t> bytes;
  std::atomic<uint64_t> zeroed{0};
  std::atomic<int> calls{0};
  std::atomic<int> reads{0};
  bool may_be_read = true;
  // Of a read, while it is inside and not yet begun.
  std::function<void(const std::atomic<bool>& stop)> before_read;

 private:
  int Enter(uint64_t offset) {
    calls++;
    std::unique_lock lock(mutex_);
    order_.push_back(offset);
    inside_++;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !shut_; });
    inside_--;
    if (failures_ == 0) return 0;
    failures_--;
    return error_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint64_t> order_;
  bool shut_ = false;
  int inside_ = 0;
  int failures_ = 0;
  int error_ = 0;
};

class NoticeLog {
 public:
  std::function<void(const Notice&)> Sink() {
    return [this](const Notice& notice) {
      EXPECT_FALSE(busy_.exchange(true)) << "two notices at once";
      {
        std::lock_guard lock(mutex_);
        notices_.push_back(notice);
      }
      changed_.notify_all();
      busy_ = false;
    };
  }
  // Waits until `count` of a kind came; the last of them.
  Notice Await(NoticeKind kind, size_t count = 1) {
    std::unique_lock lock(mutex_);
    const bool came =
        changed_.wait_for(lock, std::chrono::seconds(60), [&] { return CountLocked(kind) >= count; });
    EXPECT_TRUE(came) << "no notice of kind " << static_cast<int>(kind);
    for (auto notice = notices_.rbegin(); notice != notices_.rend(); ++notice) {
      if (notice->kind == kind) return *notice;
    }
    return {};
  }
  // Waits for either; the kind that came first.
  NoticeKind AwaitEither(NoticeKind a, NoticeKind b) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60),
                                  [&] { return CountLocked(a) + CountLocked(b) > 0; }));
    for (const Notice& notice : notices_) {
      if (notice.kind == a || notice.kind == b) return notice.kind;
    }
    return {};
  }
  size_t Count(NoticeKind kind) {
    std::lock_guard lock(mutex_);
    return CountLocked(kind);
  }

 private:
  size_t CountLocked(NoticeKind kind) const {
    size_t n = 0;
    for (const Notice& notice : notices_) n += notice.kind == kind;
    return n;
  }

  std::atomic<bool> busy_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Notice> notices_;
};

// The other side of the shared memory, played by the test.
class FakeDriver : public Driver {
 public:
  FakeDriver(uint64_t size, uint32_t block_shift, uint32_t nr_slots) : wake_(eventfd(0, EFD_CLOEXEC)) {
    EXPECT_EQ(0, SharedMemory::Create(size, block_shift, nr_slots, SNAPBAK_SETUP_HEAT,
                                      SNAPBAK_DRIVER_EMBEDDED, &mine));
    EXPECT_EQ(0, SharedMemory::Adopt(UniqueFd(dup(mine.fd())), &library));
    events_ = mine.EventRing();
    free_ = mine.FreeRing();
    SetState(SNAPBAK_STATE_READY);
  }

  int Query(snapbak_query*) override { return -ENOSYS; }
  int Open(snapbak_open*, UniqueFd*) override { return -ENOSYS; }
  int Setup(snapbak_setup*, SharedMemory*) override { return -ENOSYS; }
  int Start(snapbak_start*) override {
    SetState(SNAPBAK_STATE_ARMED);
    return 0;
  }
  int StopWrites(snapbak_stop_writes*) override { return -ENOTTY; }
  int Finish(snapbak_finish*) override { return -ENOSYS; }
  int Abort(snapbak_abort*) override { return -ENOSYS; }
  int Status(snapbak_status*) override { return -ENOSYS; }
  int Hint(snapbak_hint* hint) override {
    snapbak_hints_put(mine.header(), &hints_, &hint->extent);
    Wake();
    return 0;
  }
  void Kick() override { kicks++; }
  int WaitEvent(int cancel_fd, int timeout_ms) override {
    struct pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {cancel_fd, POLLIN, 0}};
    waits++;
    if (keeps_awake && KeepsAwake()) return 0;
    if (poll(fds, 2, timeout_ms) == 0) return -ETIMEDOUT;
    if (fds[1].revents != 0) return -ECANCELED;
    eventfd_t count;
    (void)eventfd_read(wake_.get(), &count);
    return gone ? -ECONNRESET : 0;
  }

  void Wake() {
    snapbak_full_fence();
    if (snapbak_exchange(&mine.header()->library_asleep, 0) == 1) (void)eventfd_write(wake_.get(), 1);
  }
  void Leave() {
    gone = true;
    (void)eventfd_write(wake_.get(), 1);
  }
  void SetState(uint32_t state, uint32_t reason = 0, int error = 0) {
    mine.header()->reason = reason;
    mine.header()->error = error;
    snapbak_store_release(&mine.header()->state, state);
    Wake();
  }
  void Publish(uint64_t block, uint16_t type, uint32_t slot = 0, int16_t error = 0) {
    const snapbak_event event{block, slot, type, error};
    snapbak_ring_put_event(&events_, 0, &event);
    snapbak_ring_publish(&events_, 1);
    Wake();
  }
  // What the real one does on a write: claims, fills the slot, publishes.
  void Capture(uint64_t block, uint32_t slot, const uint8_t* data) {
    ASSERT_TRUE(snapbak_bitmap_test_and_clear(mine.bitmap(), block));
    std::memcpy(mine.slot(slot), data, mine.block_bytes(block));
    Publish(block, SNAPBAK_EVENT_CAPTURED, slot);
  }
  // Slots that came back since the last call.
  std::vector<uint32_t> TakeFree() {
    std::vector<uint32_t> slots;
    for (int64_t n = snapbak_ring_ready(&free_); n > 0; n--) {
      slots.push_back(snapbak_ring_get_slot(&free_, 0));
      snapbak_ring_release(&free_, 1);
    }
    return slots;
  }

  SharedMemory mine, library;
  std::atomic<int> kicks{0};
  std::atomic<int> waits{0};
  std::atomic<bool> gone{false};
  // Like the kernel driver's descriptor: readable while events wait, and for ever once it is over.
  std::atomic<bool> keeps_awake{false};

 private:
  bool KeepsAwake() const {
    const snapbak_shm* header = mine.header();
    return snapbak_load_acquire(&header->state) >= SNAPBAK_STATE_FINISHED ||
           snapbak_load_acquire(&header->event_head.value) !=
               snapbak_load_acquire(&header->event_tail.value) ||
           snapbak_load_acquire(&header->hint_head.value) != snapbak_load_acquire(&header->hint_tail.value);
  }

  UniqueFd wake_;
  snapbak_ring events_{}, free_{};
  __u32 hints_ = 0;
};

}  // namespace snapbak
