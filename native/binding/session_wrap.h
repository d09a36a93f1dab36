// SPDX-License-Identifier: MIT
// NativeSession of lib/binding.ts: one control descriptor and the copy behind
// it. Requests run in order on one thread of the session's own.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

#include "addon_data.h"
#include "js_target.h"
#include "session_core.h"
#include "thread_pool.h"

namespace snapbak {

class SessionWrap : public Napi::ObjectWrap<SessionWrap>, public Stoppable {
 public:
  static Napi::Function Define(Napi::Env env);
  // createSession({ origin } | { socket } | { device }): a NativeSession.
  static Napi::Value Create(const Napi::CallbackInfo& info);

  explicit SessionWrap(const Napi::CallbackInfo& info);
  ~SessionWrap() override;

  void StopNow() override;

 private:
  Napi::Value Open(const Napi::CallbackInfo& info);
  Napi::Value Status(const Napi::CallbackInfo& info);
  Napi::Value Hint(const Napi::CallbackInfo& info);
  Napi::Value TakeHints(const Napi::CallbackInfo& info);
  Napi::Value Heat(const Napi::CallbackInfo& info);
  Napi::Value Prepare(const Napi::CallbackInfo& info);
  Napi::Value Flush(const Napi::CallbackInfo& info);
  Napi::Value Start(const Napi::CallbackInfo& info);
  Napi::Value StartTogether(const Napi::CallbackInfo& info);
  Napi::Value PushWork(const Napi::CallbackInfo& info);
  Napi::Value NextPending(const Napi::CallbackInfo& info);
  Napi::Value SetPaused(const Napi::CallbackInfo& info);
  Napi::Value SetThrottle(const Napi::CallbackInfo& info);
  Napi::Value ResizeTier(const Napi::CallbackInfo& info);
  Napi::Value Unlist(const Napi::CallbackInfo& info);
  Napi::Value OpenView(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value Finish(const Napi::CallbackInfo& info);
  Napi::Value Abort(const Napi::CallbackInfo& info);
  Napi::Value Close(const Napi::CallbackInfo& info);

  // Runs `work` on the session's thread; the promise has what `value` makes.
  Napi::Value Submit(Napi::Env env, std::function<Outcome(SessionCore*)> work,
                     std::function<Napi::Value(Napi::Env)> value = nullptr);
  Napi::Value StartIn(Napi::Env env, std::shared_ptr<GroupStart> group, size_t number);
  void CancelTarget();
  void KeepAlive(Napi::Env env, bool alive);

  AddonData* data_;
  std::shared_ptr<SessionCore> core_;
  std::unique_ptr<ThreadPool> thread_;
  std::shared_ptr<JsTarget> js_target_;
  bool alive_ = false;  // holds the event loop, from start() to the end
};

}  // namespace snapbak
