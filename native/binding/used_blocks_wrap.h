// SPDX-License-Identifier: MIT
// What used-block lists need to know of a file or device.
#pragma once

#include <napi.h>

namespace snapbak {

// probeRange(fd, offset, length): promise of { type, usage, table, several, partitions }.
Napi::Value ProbeRange(const Napi::CallbackInfo& info);
// extBlocks(fd, offset, length, frozen): promise of { extents, liveJournal, doubt? }.
Napi::Value JsExtBlocks(const Napi::CallbackInfo& info);

}  // namespace snapbak
