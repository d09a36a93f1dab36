// SPDX-License-Identifier: MIT
// NativeOrigin of lib/binding.ts: the embedded driver, an Engine and threads
// for its I/O. Reads have threads of their own: held writes never block them.
#pragma once

#include <napi.h>

#include <memory>

#include "../driver/engine.h"
#include "addon_data.h"
#include "thread_pool.h"

namespace snapbak {

class OriginWrap : public Napi::ObjectWrap<OriginWrap>, public Stoppable {
 public:
  static Napi::Function Define(Napi::Env env);
  // openOrigin(path, readOnly): promise of a NativeOrigin.
  static Napi::Value Open(const Napi::CallbackInfo& info);

  explicit OriginWrap(const Napi::CallbackInfo& info);
  ~OriginWrap() override;

  std::shared_ptr<Engine> engine() const { return engine_; }
  void StopNow() override;

 private:
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  Napi::Value WriteZeroes(const Napi::CallbackInfo& info);
  Napi::Value Discard(const Napi::CallbackInfo& info);
  Napi::Value Flush(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);
  Napi::Value Size(const Napi::CallbackInfo& info);
  Napi::Value IsBlockDevice(const Napi::CallbackInfo& info);

  Napi::Value Submit(Napi::Env env, ThreadPool* pool, const char* stage, std::function<int(Engine*)> work);

  AddonData* data_;
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<ThreadPool> readers_;
  std::unique_ptr<ThreadPool> writers_;
  std::unique_ptr<ThreadPool> closer_;
};

}  // namespace snapbak
