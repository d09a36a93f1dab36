// SPDX-License-Identifier: MIT
// Takes the driver's events off the ring and hands them on; sleeps when there
// are none. The only consumer of the event ring.
#pragma once

#include <vector>

#include "copy_state.h"

namespace snapbak {

class EventPump {
 public:
  // Before START: the ring is at its beginning.
  explicit EventPump(CopyState* state);

  // Until stopped, or until the session is over.
  void Run();

 private:
  bool TakeBatch(uint32_t ready);
  bool Sort(const snapbak_event& event);
  bool NothingIsShort() const;
  void TakeHints();
  bool Look();
  bool Sleep();

  CopyState* const state_;
  snapbak_ring ring_;
  uint32_t hints_ = 0;  // our position in the hint ring
  uint32_t seen_state_ = SNAPBAK_STATE_READY;
  std::vector<CapturedBlock> captured_;
  std::vector<uint64_t> wanted_;
  std::vector<snapbak_event> invalid_;
};

}  // namespace snapbak
