// SPDX-License-Identifier: MIT
#include "group_start.h"

#include <errno.h>
#include <unistd.h>

#include <iterator>
#include <vector>

namespace snapbak {

GroupStart::End GroupStart::Run(size_t number, Driver* driver, int lower, snapbak_start* start) {
  const bool kernel = driver->StartDescriptor() >= 0;
  int error = 0;
  if (kernel) {
    std::lock_guard<std::mutex> lock(mutex_);
    kernel_[number] = driver;
  } else if (fdatasync(lower) != 0) {  // a read-only descriptor will do
    error = -errno;
  }
  if (!Meet(error)) return {error != 0 ? error : -ECANCELED, "flush"};

  if (!kernel) error = Stop(driver);
  if (!Meet(error)) return {error != 0 ? error : -ECANCELED, "stop"};

  const bool leads = kernel && kernel_.begin()->second == driver;
  if (leads) error = StartKernel(start);
  if (!Meet(error)) return {error != 0 ? error : -ECANCELED, "start"};

  if (!kernel) {
    start->size = sizeof *start;
    start->timeout_ms = timeout_ms_;
    error = driver->Start(start);
  } else if (!leads) {
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

int GroupStart::Stop(Driver* driver) const {
  snapbak_stop_writes stop{};
  stop.size = sizeof stop;
  stop.timeout_ms = timeout_ms_;
  return driver->StopWrites(&stop);
}

// While the writes of the others stand still.
int GroupStart::StartKernel(snapbak_start* start) {
  std::vector<int> others;
  for (auto other = std::next(kernel_.begin()); other != kernel_.end(); ++other) {
    others.push_back(other->second->StartDescriptor());
  }
  start->size = sizeof *start;
  start->timeout_ms = timeout_ms_;
  start->nr_others = static_cast<__u32>(others.size());
  start->others = others.empty() ? 0 : reinterpret_cast<uintptr_t>(others.data());
  const int error = kernel_.begin()->second->Start(start);
  if (error == 0) started_ = *start;
  return error;
}

}  // namespace snapbak
