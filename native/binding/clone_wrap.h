// SPDX-License-Identifier: MIT
// NativeClone of lib/binding.ts: a second device that a session fills, and that
// is used meanwhile.
#pragma once

#include <napi.h>

#include <memory>

#include "../copy/clone.h"
#include "addon_data.h"
#include "exportable.h"

namespace snapbak {

class CloneWrap : public Napi::ObjectWrap<CloneWrap>, public Stoppable {
 public:
  static Napi::Function Define(Napi::Env env);
  // openClone(options): a NativeClone, for prepare() of a session.
  static Napi::Value Open(const Napi::CallbackInfo& info);
  // The clone of a NativeClone; throws for anything else.
  static std::shared_ptr<Clone> Of(const Napi::Value& value);

  explicit CloneWrap(const Napi::CallbackInfo& info);
  ~CloneWrap() override { StopNow(); }
  void StopNow() override;

 private:
  Napi::Value Read(const Napi::CallbackInfo& info) { return parts_->Read(info); }
  Napi::Value Serve(const Napi::CallbackInfo& info) { return parts_->Serve(info); }
  Napi::Value Close(const Napi::CallbackInfo& info) { return parts_->Close(info); }
  Napi::Value Finish(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);

  AddonData* data_;
  std::shared_ptr<Clone> clone_;
  std::unique_ptr<Exportable> parts_;
  std::unique_ptr<ThreadPool> finisher_;
};

}  // namespace snapbak
