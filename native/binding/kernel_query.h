// SPDX-License-Identifier: MIT
#pragma once

#include <napi.h>

namespace snapbak {

// queryKernelDriver(): { abiVersion, version } of the kernel module, whatever
// version of the contract it speaks; throws where it cannot be asked.
Napi::Value QueryKernelDriver(const Napi::CallbackInfo& info);

}  // namespace snapbak
