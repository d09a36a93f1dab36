// SPDX-License-Identifier: MIT
// One start instant for several sessions, whatever their drivers. Each session
// takes part on its own thread; they go from step to step together:
//
//   1 flush   lower devices of user and embedded drivers; writes go on
//   2 stop    STOP_WRITES of these: their writes stand still
//   3 START   of all kernel origins, as one request, in the order of their numbers
//   4 START   of the others, which lets their writes go on
//
// Step 1 takes as long as the devices do, and cannot be given up: what is dirty is
// best written before (SessionWrap::Flush()).
// After step 2 and before step 4 nothing is written to the origins of step 2, and
// the kernel's own instant lies in between: it is the instant of all. When one
// fails, none goes further: whoever takes part ends its own session then. A
// member that never answers stops nobody for longer than the time that
// STOP_WRITES was given: the drivers see to that.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

#include "../driver/driver.h"

namespace snapbak {

class GroupStart {
 public:
  // timeout_ms: for stopping writes and for all that happens while they stand still.
  GroupStart(size_t members, uint64_t timeout_ms) : members_(members), timeout_ms_(timeout_ms) {}

  // How a member's part ended.
  struct End {
    int error = 0;  // 0: all have started; -ECANCELED: another member failed, this one did not
    const char* stage = "start";
  };

  // A member's part, on its session's thread. `number`: of each its own; the kernel
  // freezes file systems in this order. `lower`: descriptor of its lower device.
  // Fills `start` as START does. After an error its session, which may be armed or
  // stopped, has to be aborted at once.
  End Run(size_t number, Driver* driver, int lower, snapbak_start* start);

  // In place of Run(): this member cannot take part, so the others fail. Never waits.
  void Withdraw();

 private:
  bool Meet(int error);
  void Arrive(int error);
  int Stop(Driver* driver) const;
  int StartKernel(snapbak_start* start);

  const size_t members_;
  const uint64_t timeout_ms_;

  std::mutex mutex_;  // guards all below; kernel_ and started_ are settled before the step that reads them
  std::condition_variable met_;
  size_t arrived_ = 0;
  uint64_t step_ = 0;
  bool failed_ = false;               // somebody, so far
  bool good_ = true;                  // the step that ended last
  std::map<size_t, Driver*> kernel_;  // the first makes the request, which names the others
  snapbak_start started_{};           // of the kernel group
};

}  // namespace snapbak
