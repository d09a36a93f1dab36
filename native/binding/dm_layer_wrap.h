// SPDX-License-Identifier: MIT
// The composite operations of dm_layer.h, for JavaScript. An outcome is an
// answer, not an exception: it says more than an errno.
#pragma once

#include <napi.h>

namespace snapbak {

// Adds attach, detach, create and makeLinear to `object`.
void DefineDmLayer(Napi::Env env, Napi::Object object);

}  // namespace snapbak
