// SPDX-License-Identifier: MIT
#include "dm_layer_wrap.h"

#include <string>

#include "../driver/dm_layer.h"
#include "convert.h"
#include "dm_promise.h"

namespace snapbak {

namespace {

DmVisibility Visibility(const Napi::Value& hidden) {
  return ToBool(hidden) ? DmVisibility::kHidden : DmVisibility::kVisible;
}

Napi::Value OutcomeObject(Napi::Env env, const DmOutcome& outcome) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("errno", Napi::Number::New(env, outcome.error));
  object.Set("step", outcome.step);
  object.Set("undoErrno", Napi::Number::New(env, outcome.undo_error));
  object.Set("undoStep", outcome.undo_step);
  object.Set("suspended", Napi::Boolean::New(env, outcome.suspended));
  object.Set("lowerLeft", Napi::Boolean::New(env, outcome.lower_left));
  object.Set("stoppedNs", Num(env, outcome.stopped_ns));
  return object;
}

Napi::Value PromisedOutcome(const Napi::CallbackInfo& info, std::function<DmOutcome(DeviceMapper*)> work) {
  return Promised<DmOutcome>(
      info,
      [work = std::move(work)](DeviceMapper* dm, DmOutcome* outcome) {
        *outcome = work(dm);
        return 0;
      },
      OutcomeObject);
}

DmLayer ToLayer(const Napi::Value& value) {
  const auto options = value.As<Napi::Object>();
  DmLayer layer;
  layer.origin = Text(options.Get("origin"));
  layer.lower_name = Text(options.Get("lowerName"));
  layer.lower_uuid = Text(options.Get("lowerUuid"));
  layer.target = Text(options.Get("target"));
  layer.offset = ToU64(options.Get("offset"), "offset") / 512;
  layer.visibility = Visibility(options.Get("hidden"));
  return layer;
}

Napi::Value Attach(const Napi::CallbackInfo& info) {
  return PromisedOutcome(info,
                         [layer = ToLayer(info[0])](DeviceMapper* dm) { return AttachLayer(dm, layer); });
}

Napi::Value Detach(const Napi::CallbackInfo& info) {
  return PromisedOutcome(info,
                         [layer = ToLayer(info[0])](DeviceMapper* dm) { return DetachLayer(dm, layer); });
}

Napi::Value Create(const Napi::CallbackInfo& info) {
  const auto options = info[0].As<Napi::Object>();
  DmCreation creation;
  creation.name = Text(options.Get("name"));
  creation.uuid = Text(options.Get("uuid"));
  creation.target = Text(options.Get("target"));
  creation.device = ToU64(options.Get("device"), "device");
  return PromisedOutcome(info, [creation](DeviceMapper* dm) { return CreateOver(dm, creation); });
}

// makeLinear(name, hidden)
Napi::Value ToLinear(const Napi::CallbackInfo& info) {
  return PromisedOutcome(info, [name = Text(info[0]), visibility = Visibility(info[1])](DeviceMapper* dm) {
    return MakeLinear(dm, name, visibility);
  });
}

}  // namespace

void DefineDmLayer(Napi::Env env, Napi::Object object) {
  object.Set("attach", Napi::Function::New(env, &Attach));
  object.Set("detach", Napi::Function::New(env, &Detach));
  object.Set("create", Napi::Function::New(env, &Create));
  object.Set("makeLinear", Napi::Function::New(env, &ToLinear));
}

}  // namespace snapbak
