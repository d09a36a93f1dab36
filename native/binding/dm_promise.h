// SPDX-License-Identifier: MIT
// Work with device-mapper on a thread of ours, and the promise of its result.
#pragma once

#include <errno.h>
#include <napi.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "../driver/device_mapper.h"
#include "addon_data.h"

namespace snapbak {

inline std::string Text(const Napi::Value& value) { return value.As<Napi::String>(); }

// Runs `work` on a thread of ours; `result` is what it left, made into a value.
template <typename Result>
Napi::Value Promised(const Napi::CallbackInfo& info, std::function<int(DeviceMapper*, Result*)> work,
                     std::function<Napi::Value(Napi::Env, const Result&)> value) {
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([work = std::move(work), value = std::move(value), settler] {
    auto result = std::make_shared<Result>();
    int error;
    {
      DeviceMapper dm;
      error = dm.Ready();
      if (error != 0) return settler.Settle({error, "libdevmapper"});
      error = work(&dm, result.get());
    }
    settler.Settle({error, "device-mapper"}, [result, value](Napi::Env env) { return value(env, *result); });
  });
  if (!accepted) settler.Settle({-EBADF, "device-mapper"});
  return settler.promise();
}

}  // namespace snapbak
