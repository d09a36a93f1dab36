// SPDX-License-Identifier: MIT
#include "group_start.h"

#include <errno.h>
#include <unistd.h>

namespace snapbak {

GroupStart::End GroupStart::Run(Driver* driver, int lower, snapbak_start* start) {
  const bool kernel = driver->StartDescriptor() >= 0;
  int error = 0;
  if (kernel) {
    Join(driver);
  } else if (fdatasync(lower) != 0) {  // a read-only descriptor will do
    error = -errno;
  }
  if (!Meet(error)) return {error != 0 ? error : -ECANCELED, "flush"};

  if (!kernel) error = Stop(driver);
  if (!Meet(error)) return {error != 0 ? error : -ECANCELED, "stop"};

  if (driver == leader_) error = StartKernel(driver, start);
  if (!Meet(error)) return {error != 0 ? error : -ECANCELED, "start"};

  if (!kernel) {
    start->size = sizeof *start;
    start->timeout_ms = timeout_ms_;
    error = driver->Start(start);
  } else if (driver != leader_) {
    *start = started_;
  }
  if (!Meet(error)) return {error != 0 ? error : -ECANCELED, "start"};
  return {};
}

void GroupStart::Withdraw() {
  std::lock_guard<std::mutex> lock(mutex_);
  Arrive(-ECANCELED);
}

// Waits until all have come to the end of this step. False: one has failed in it.
bool GroupStart::Meet(int error) {
  std::unique_lock<std::mutex> lock(mutex_);
  const uint64_t step = step_;
  Arrive(error);
  met_.wait(lock, [&] { return step_ != step; });
  // Of this step: the next one cannot end before we have come there. (`failed_` may
  // be of the next already, and who takes that for this one's leaves the others waiting.)
  return good_;
}

// With mutex_ held.
void GroupStart::Arrive(int error) {
  if (error != 0) failed_ = true;
  if (++arrived_ < members_) return;
  arrived_ = 0;
  good_ = !failed_;
  ++step_;
  met_.notify_all();
}

// Of the kernel origins, the first makes the request, which names the others.
void GroupStart::Join(Driver* driver) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (leader_ == nullptr) {
    leader_ = driver;
  } else {
    kernel_.push_back(driver->StartDescriptor());
  }
}

int GroupStart::Stop(Driver* driver) const {
  snapbak_stop_writes stop{};
  stop.size = sizeof stop;
  stop.timeout_ms = timeout_ms_;
  return driver->StopWrites(&stop);
}

// While the writes of the others stand still.
int GroupStart::StartKernel(Driver* driver, snapbak_start* start) {
  start->size = sizeof *start;
  start->timeout_ms = timeout_ms_;
  start->nr_others = static_cast<__u32>(kernel_.size());
  start->others = kernel_.empty() ? 0 : reinterpret_cast<uintptr_t>(kernel_.data());
  const int error = driver->Start(start);
  if (error == 0) started_ = *start;
  return error;
}

}  // namespace snapbak
