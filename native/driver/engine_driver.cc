// SPDX-License-Identifier: MIT
#include "engine_driver.h"

#include <errno.h>
#include <poll.h>

#include <atomic>

#include "wake.h"

namespace snapbak {

namespace {

uint64_t NextOwner() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

EngineDriver::EngineDriver(std::shared_ptr<Engine> engine)
    : engine_(std::move(engine)), owner_(NextOwner()) {}

EngineDriver::~EngineDriver() { engine_->HandleClose(owner_); }

int EngineDriver::Query(snapbak_query* query) { return engine_->HandleQuery(query); }

int EngineDriver::Open(snapbak_open* open, UniqueFd* lower) {
  return engine_->HandleOpen(owner_, open, lower);
}

int EngineDriver::Setup(snapbak_setup* setup, SharedMemory* memory) {
  UniqueFd memory_fd;
  const int ret = engine_->HandleSetup(owner_, setup, &memory_fd, &wake_fd_);
  return ret != 0 ? ret : SharedMemory::Adopt(std::move(memory_fd), memory);
}

int EngineDriver::Start(snapbak_start* start) { return engine_->HandleStart(owner_, start); }

int EngineDriver::StopWrites(snapbak_stop_writes* stop) { return engine_->HandleStopWrites(owner_, stop); }

int EngineDriver::Finish(snapbak_finish* finish) { return engine_->HandleFinish(owner_, finish); }

int EngineDriver::Abort(snapbak_abort* abort) { return engine_->HandleAbort(owner_, abort); }

int EngineDriver::Status(snapbak_status* status) { return engine_->HandleStatus(status); }

int EngineDriver::Hint(snapbak_hint* hint) { return engine_->HandleHint(hint); }

void EngineDriver::Kick() { engine_->Kick(); }

int EngineDriver::WaitEvent(int cancel_fd, int timeout_ms) {
  struct pollfd fds[2] = {{wake_fd_.get(), POLLIN, 0}, {cancel_fd, POLLIN, 0}};
  const int n = poll(fds, 2, timeout_ms);
  if (n < 0) return errno == EINTR ? 0 : -errno;  // a wake-up for nothing does no harm
  if (fds[1].revents != 0) return -ECANCELED;
  if (n == 0) return -ETIMEDOUT;
  TakeWakes(wake_fd_.get());  // shut: the session is over, which its header tells
  return 0;
}

}  // namespace snapbak
