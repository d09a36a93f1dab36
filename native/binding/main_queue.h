// SPDX-License-Identifier: MIT
// The way from our threads to the JavaScript thread of one environment, and
// promises settled through it. Keeps the event loop alive only while a promise
// is open or somebody asked for it.
#pragma once

#include <napi.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace snapbak {

// How a piece of work ended: 0, or a negative errno, the step that failed, and
// the number of the block device at fault where one is known.
struct Outcome {
  int error = 0;
  const char* stage = "";
  uint64_t device = 0;
};

class MainQueue : public std::enable_shared_from_this<MainQueue> {
 public:
  using Task = std::function<void(Napi::Env)>;

  static std::shared_ptr<MainQueue> Create(Napi::Env env);

  // Any thread: `task` runs on the JavaScript thread, in order. After the
  // environment has gone it is dropped (destroyed unrun).
  void Post(Task task);

  // JavaScript thread only: keep the event loop alive / let it go.
  void Hold(Napi::Env env);
  void Release(Napi::Env env);

  // The environment goes; no task runs any more.
  void Shutdown();

 private:
  static void Drain(napi_env env, napi_value, void* context, void*);

  napi_threadsafe_function function_ = nullptr;
  std::mutex mutex_;
  std::deque<Task> tasks_;  // guarded by mutex_
  bool closed_ = false;     // guarded by mutex_
  int holds_ = 0;           // JavaScript thread only
};

// A promise that work on another thread settles. Made on the JavaScript thread.
class Settler {
 public:
  Settler(Napi::Env env, std::shared_ptr<MainQueue> queue);

  Napi::Promise promise() const { return deferred_->Promise(); }

  // Any thread, once. `value` makes the result, on the JavaScript thread.
  void Settle(Outcome outcome, std::function<Napi::Value(Napi::Env)> value = nullptr) const;

 private:
  std::shared_ptr<Napi::Promise::Deferred> deferred_;
  std::shared_ptr<MainQueue> queue_;
};

// The Error of a failed native call: NativeError of lib/binding.ts.
Napi::Error MakeError(Napi::Env env, const Outcome& outcome);

}  // namespace snapbak
