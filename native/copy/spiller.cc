// SPDX-License-Identifier: MIT
// Moves captured blocks from their slots to tier 2.
#include "spiller.h"

#include <cerrno>

#include "crc32c.h"

namespace snapbak {

void Spiller::Run() {
  CapturedBlock captured;
  while (state_->jobs.TakeForSpill(&captured)) {
    const uint8_t* data = state_->memory->slot(captured.slot);
    SpilledBlock spilled{captured.block, 0, Crc32c(0, data, state_->BytesOf(captured.block, 1))};
    const int error = state_->tier2->Put(data, &spilled.place);
    if (error != 0) {
      state_->jobs.PutBack(captured);  // stays in its slot
      if (error == -ENOSPC) continue;
      state_->notifier.Send(NoticeKind::kTier2Lost, 0, error);
      return;
    }
    // the slot first: a held write may be waiting for it
    state_->counters.spilled++;
    state_->ReturnSlot(captured.slot);
    state_->Progress();
    state_->jobs.AddSpilled(spilled);
  }
}

}  // namespace snapbak
