// SPDX-License-Identifier: MIT
// Exchanges the table of a device in use in one request: the kernel suspends it
// (file systems frozen, writes drained), swaps the tables and lets it go on. A
// device that is left suspended by a failure gets its old table back at once.
#pragma once

#include "device_mapper.h"

namespace snapbak {

// How a piece of work on devices ended.
struct DmOutcome {
  int error = 0;          // 0 or negative errno of what failed
  const char* step = "";  // the step that failed
  // Of undoing the steps before it, where that failed, too.
  int undo_error = 0;
  const char* undo_step = "";
  bool suspended = false;   // the origin is suspended, and nothing here could resume it
  bool lower_left = false;  // the lower device is in use by somebody; it goes when that one lets go
  uint64_t stopped_ns = 0;  // how long the request took: no write waited longer

  bool ok() const { return error == 0; }
  void Fail(const char* at, int with) {
    step = at;
    error = with;
  }
  void FailUndo(const char* at, int with) {
    if (with == 0 || undo_error != 0) return;
    undo_step = at;
    undo_error = with;
  }
};

// `previous` is what `device` has now. Steps: "load", "swap"; "resume" in undo.
void SwapTable(DeviceMapper* dm, const DmInfo& device, const DmTable& next, const DmTable& previous,
               DmVisibility visibility, DmOutcome* outcome);

}  // namespace snapbak
