// SPDX-License-Identifier: MIT
#include "kernel_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include <chrono>
#include <cstring>
#include <utility>

namespace snapbak {

namespace {

bool PowerOfTwo(uint64_t v) { return v != 0 && (v & (v - 1)) == 0; }

template <size_t N>
bool Terminated(const __u8 (&text)[N]) {
  return memchr(text, 0, N) != nullptr;
}

}  // namespace

KernelDriver::KernelDriver(uint64_t device, UniqueFd control, const KernelDriverOptions& options)
    : device_(device), control_(std::move(control)), options_(options) {}

int KernelDriver::Connect(uint64_t device, std::unique_ptr<Driver>* out, const KernelDriverOptions& options) {
  UniqueFd control(open(options.control.c_str(), O_RDWR | O_CLOEXEC));
  if (!control.valid()) return -errno;
  std::unique_ptr<KernelDriver> driver(new KernelDriver(device, std::move(control), options));
  snapbak_query query{};
  query.size = sizeof(query);
  const int ret = driver->Query(&query);
  // ENOTTY: no control device of ours. EINVAL: it knows QUERY, but not this one.
  if (ret == -ENOTTY || ret == -EINVAL) return -EPROTONOSUPPORT;
  if (ret != 0) return ret;
  if (query.abi_version != SNAPBAK_ABI_VERSION) return -EPROTONOSUPPORT;
  *out = std::move(driver);
  return 0;
}

KernelDriver::~KernelDriver() {
  if (!session_open_) return;
  snapbak_abort request{};
  request.size = sizeof(request);
  request.reason = SNAPBAK_REASON_ABORTED;
  Abort(&request);
}

int KernelDriver::Try(unsigned long request, void* argument) {
  return options_.ioctl(control_.get(), request, argument) < 0 ? -errno : 0;
}

// A request that a signal interrupted has changed nothing.
int KernelDriver::Request(unsigned long request, void* argument) {
  int ret;
  do {
    ret = Try(request, argument);
  } while (ret == -EINTR);
  return ret;
}

int KernelDriver::Query(snapbak_query* query) {
  const int ret = Request(SNAPBAK_IOC_QUERY, query);
  if (ret != 0) return ret;
  return Terminated(query->version) ? 0 : -EPROTO;
}

int KernelDriver::Open(snapbak_open* open, UniqueFd* lower) {
  open->dev = device_;
  int ret = Request(SNAPBAK_IOC_OPEN, open);
  if (ret != 0) return ret;
  session_open_ = true;
  if (!Terminated(open->origin_id) || open->origin_size == 0 || !PowerOfTwo(open->sector_size) ||
      open->sector_size < 512 || open->sector_size > (1u << SNAPBAK_MAX_BLOCK_SHIFT) ||
      open->lower_offset % open->sector_size != 0) {
    return -EPROTO;
  }
  ret = OpenBlockNode(open->lower_dev, O_RDONLY | O_DIRECT, lower, options_.nodes);
  if (ret != 0) return ret;
  origin_size_ = open->origin_size;
  return 0;
}

int KernelDriver::Setup(snapbak_setup* setup, SharedMemory* memory) {
  const snapbak_setup asked = *setup;
  int ret = Request(SNAPBAK_IOC_SETUP, setup);
  if (ret != 0) return ret;
  SharedMemory adopted;
  ret = SharedMemory::AdoptDevice(control_.get(), setup->map_size, &adopted);
  if (ret != 0) return ret;
  const snapbak_shm& geometry = adopted.geometry();
  if (geometry.block_shift != asked.block_shift || geometry.nr_slots != asked.nr_slots ||
      geometry.origin_size != origin_size_) {
    return -EPROTO;
  }
  *memory = std::move(adopted);
  return 0;
}

// Made again after a signal with the time that is left, so that signals cannot make it longer.
int KernelDriver::Start(snapbak_start* start) {
  using std::chrono::milliseconds;
  using Clock = std::chrono::steady_clock;
  const snapbak_start asked = *start;
  const Clock::time_point deadline = Clock::now() + milliseconds(asked.timeout_ms);
  for (;;) {
    const int ret = Try(SNAPBAK_IOC_START, start);
    if (ret != -EINTR) return ret;
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return -ETIMEDOUT;
    *start = asked;
    start->timeout_ms = static_cast<__u64>(left.count());
  }
}

int KernelDriver::StopWrites(snapbak_stop_writes* stop) { return Request(SNAPBAK_IOC_STOP_WRITES, stop); }

int KernelDriver::Finish(snapbak_finish* finish) {
  const int ret = Request(SNAPBAK_IOC_FINISH, finish);
  if (ret == 0) session_open_ = false;
  return ret;
}

int KernelDriver::Abort(snapbak_abort* abort) {
  const int ret = Request(SNAPBAK_IOC_ABORT, abort);
  session_open_ = false;  // what could not be aborted ends with the descriptor
  return ret;
}

int KernelDriver::Status(snapbak_status* status) {
  status->dev = device_;
  const int ret = Request(SNAPBAK_IOC_STATUS, status);
  if (ret != 0) return ret;
  return Terminated(status->origin_id) ? 0 : -EPROTO;
}

int KernelDriver::Hint(snapbak_hint* hint) {
  hint->dev = device_;
  return Request(SNAPBAK_IOC_HINT, hint);
}

void KernelDriver::Kick() { Request(SNAPBAK_IOC_KICK, nullptr); }

int KernelDriver::WaitEvent(int cancel_fd, int timeout_ms) {
  struct pollfd fds[2] = {{cancel_fd, POLLIN, 0}, {control_.get(), POLLIN, 0}};
  const int n = poll(fds, 2, timeout_ms);
  if (n < 0) return errno == EINTR ? 0 : -errno;  // a wake-up for nothing does no harm
  if (n == 0) return -ETIMEDOUT;
  if (fds[0].revents != 0) return -ECANCELED;
  return (fds[1].revents & POLLIN) != 0 ? 0 : -ECONNRESET;
}

}  // namespace snapbak
