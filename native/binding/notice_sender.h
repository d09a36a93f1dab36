// SPDX-License-Identifier: MIT
// Notices of native threads to a JavaScript function.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <utility>

#include "main_queue.h"

namespace snapbak {

// What it gives may be called on any thread, and may die on any: the reference
// to the function dies on its own thread. `to_value` is called there, too.
template <typename Notice>
std::function<void(const Notice&)> NoticeSender(Napi::Function callback, std::shared_ptr<MainQueue> queue,
                                                Napi::Value (*to_value)(Napi::Env, const Notice&)) {
  auto* made = new Napi::FunctionReference(Napi::Persistent(callback));
  std::shared_ptr<Napi::FunctionReference> function(made, [queue](Napi::FunctionReference* gone) {
    std::shared_ptr<Napi::FunctionReference> last(gone);
    queue->Post([last = std::move(last)](Napi::Env) {});
  });
  return [queue, function, to_value](const Notice& notice) {
    queue->Post([function, notice, to_value](Napi::Env env) { function->Call({to_value(env, notice)}); });
  };
}

}  // namespace snapbak
