// SPDX-License-Identifier: MIT
// Moves captured blocks from their slots to the second tiers.
#include "spiller.h"

#include <cerrno>

#include "crc32c.h"

namespace snapbak {

void Spiller::Run() {
  CapturedBlock captured;
  while (state_->jobs.TakeForSpill(&captured)) {
    const uint8_t* data = state_->memory->slot(captured.slot);
    SpilledBlock spilled{captured.block, {}, Crc32c(0, data, state_->BytesOf(captured.block, 1))};
    if (!Put(data, &spilled.where)) {
      state_->jobs.PutBack(captured);  // stays in its slot
      continue;
    }
    // the slot first: a held write may be waiting for it
    state_->counters.spilled++;
    state_->ReturnSlot(captured.slot);
    state_->Progress();
    state_->jobs.AddSpilled(spilled);
  }
}

// False: there is no room in any tier that is left.
bool Spiller::Put(const void* data, TierPlace* where) {
  for (;;) {
    const int error = state_->tiers->Put(data, where);
    if (error == 0) return true;
    if (error == -ENOSPC) return false;
    state_->GiveUpTier(where->tier, error);
  }
}

}  // namespace snapbak
