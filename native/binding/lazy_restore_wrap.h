// SPDX-License-Identifier: MIT
// NativeLazyRestore of lib/binding.ts: a restore that is used while it runs.
#pragma once

#include <napi.h>

#include <memory>

#include "../copy/lazy_restore.h"
#include "addon_data.h"
#include "exportable.h"

namespace snapbak {

class LazyRestoreWrap : public Napi::ObjectWrap<LazyRestoreWrap>, public Stoppable {
 public:
  static Napi::Function Define(Napi::Env env);
  // openLazyRestore(options): promise of a NativeLazyRestore, running.
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit LazyRestoreWrap(const Napi::CallbackInfo& info);
  ~LazyRestoreWrap() override { StopNow(); }
  void StopNow() override;

 private:
  Napi::Value Read(const Napi::CallbackInfo& info) { return parts_->Read(info); }
  Napi::Value Serve(const Napi::CallbackInfo& info) { return parts_->Serve(info); }
  Napi::Value Close(const Napi::CallbackInfo& info) { return parts_->Close(info); }
  Napi::Value Stats(const Napi::CallbackInfo& info);

  AddonData* data_;
  std::shared_ptr<LazyRestore> restore_;
  std::unique_ptr<Exportable> parts_;
};

}  // namespace snapbak
