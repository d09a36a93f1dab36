// SPDX-License-Identifier: MIT
// What used-block lists need to know of a file or device: a descriptor, or a NativeExportable
// (a point-in-time view), which is read as it is.
#pragma once

#include <napi.h>

namespace snapbak {

// probeRange(source, offset, length): promise of { type, usage, table, several, partitions }.
Napi::Value ProbeRange(const Napi::CallbackInfo& info);
// extBlocks(source, offset, length, checked): promise of { extents, liveJournal, doubt?, unclean? }.
Napi::Value JsExtBlocks(const Napi::CallbackInfo& info);

}  // namespace snapbak
