// SPDX-License-Identifier: MIT
// Device-mapper control for JavaScript. Keys that tables hold stay below: only
// the kinds of their lines come up.
#pragma once

#include <napi.h>

namespace snapbak {

// The object `deviceMapper`: NativeDeviceMapper of lib/binding.ts.
Napi::Object DefineDeviceMapper(Napi::Env env);

}  // namespace snapbak
