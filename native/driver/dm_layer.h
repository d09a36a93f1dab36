// SPDX-License-Identifier: MIT
// Puts a device-mapper target of one line (snapbak) under a device in use, and
// takes it away again. What the device stood on moves to a lower device of its
// own: a copy of the table, keys included, which never leaves this process.
#pragma once

#include "dm_swap.h"

namespace snapbak {

struct DmLayer {
  std::string origin;      // name of the device in use
  std::string lower_name;  // of the device to make below it
  std::string lower_uuid;
  std::string target;                                // "snapbak"
  uint64_t offset = 0;                               // sectors, on the lower device
  DmVisibility visibility = DmVisibility::kVisible;  // of the origin; the lower device is hidden
};

// Steps: "origin", "lower-create", "lower-load", "lower-resume", "load", "swap".
// After an error everything is as it was, unless the outcome says otherwise.
DmOutcome AttachLayer(DeviceMapper* dm, const DmLayer& layer);

// The lower device's table becomes the origin's again, and the lower device is
// removed. Steps: "origin", "lower", "load", "swap"; "lower-remove" with the
// origin detached already.
DmOutcome DetachLayer(DeviceMapper* dm, const DmLayer& layer);

// A new device of one line over a block device that nobody uses. Steps:
// "open" (-EBUSY: it is in use), "create", "load", "resume".
struct DmCreation {
  std::string name;
  std::string uuid;
  std::string target;
  uint64_t device = 0;  // number, as in st_rdev, of the block device
};
DmOutcome CreateOver(DeviceMapper* dm, const DmCreation& creation);

// A device of one line in use goes on as "linear" on the same device. Steps:
// "origin", "load", "swap".
DmOutcome MakeLinear(DeviceMapper* dm, const std::string& name, DmVisibility visibility);

}  // namespace snapbak
