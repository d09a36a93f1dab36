// SPDX-License-Identifier: MIT
// A container file on the origin's own file system; see copy/pinned_file.h.
#pragma once

#include <napi.h>

namespace snapbak {

// pinFile(fd, bytes, beneath): promise of { extents, unsuited? }.
Napi::Value PinFile(const Napi::CallbackInfo& info);
// unpinFile(fd)
Napi::Value UnpinFile(const Napi::CallbackInfo& info);
// removeLeftPinned(path): true if a file was left there and is gone, false if there was none.
Napi::Value RemoveLeftPinnedFile(const Napi::CallbackInfo& info);

}  // namespace snapbak
