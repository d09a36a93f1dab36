// SPDX-License-Identifier: MIT
#include "js_target.h"

#include <errno.h>

#include <algorithm>
#include <condition_variable>
#include <utility>
#include <vector>

namespace snapbak {

struct JsTarget::Call {
  std::mutex mutex;
  std::condition_variable settled;
  bool done = false;  // guarded by mutex, as all here
  int error = 0;

  void Settle(int result) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (done) return;
      done = true;
      error = result;
    }
    settled.notify_all();
  }
};

struct JsTarget::Functions {
  Napi::ObjectReference object;
};

JsTarget::JsTarget(Napi::Object object, std::shared_ptr<MainQueue> queue)
    : queue_(std::move(queue)), functions_(std::make_shared<Functions>()) {
  functions_->object = Napi::Persistent(object);
}

JsTarget::~JsTarget() {
  // References die where they were made.
  queue_->Post([functions = std::move(functions_)](Napi::Env) {});
}

int JsTarget::Write(uint64_t offset, const void* data, size_t length) {
  return Invoke(offset, data, length, false);
}

int JsTarget::WriteZeroes(uint64_t offset, uint64_t length) {
  // JavaScript targets know no holes: they get zeroes, a piece at a time.
  const std::vector<uint8_t> zeroes(static_cast<size_t>(std::min<uint64_t>(length, 1 << 20)), 0);
  while (length > 0) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(length, zeroes.size()));
    const int ret = Invoke(offset, zeroes.data(), n, false);
    if (ret != 0) return ret;
    offset += n;
    length -= n;
  }
  return 0;
}

int JsTarget::Flush() { return Invoke(0, nullptr, 0, true); }

int JsTarget::Invoke(uint64_t offset, const void* data, size_t length, bool flush) {
  auto call = std::make_shared<Call>();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (cancelled_) return -ECANCELED;
    calls_.insert(call);
  }
  queue_->Post([call, functions = functions_, offset, data, length, flush](Napi::Env env) {
    Napi::Object target = functions->object.Value();
    try {
      Napi::Value result;
      if (flush) {
        result = target.Get("flush").As<Napi::Function>().Call(target, {});
      } else {
        Napi::Value bytes;
        {
          // `data` is ours only while the caller waits.
          std::lock_guard<std::mutex> lock(call->mutex);
          if (call->done) return;
          bytes = Napi::Buffer<uint8_t>::Copy(env, static_cast<const uint8_t*>(data), length);
        }
        result = target.Get("write").As<Napi::Function>().Call(
            target, {Napi::Number::New(env, static_cast<double>(offset)), bytes});
      }
      Napi::Object promise_class = env.Global().Get("Promise").As<Napi::Object>();
      Napi::Object promise =
          promise_class.Get("resolve").As<Napi::Function>().Call(promise_class, {result}).As<Napi::Object>();
      promise.Get("then").As<Napi::Function>().Call(
          promise,
          {Napi::Function::New(env, [call](const Napi::CallbackInfo&) { call->Settle(0); }),
           Napi::Function::New(env, [call](const Napi::CallbackInfo&) { call->Settle(-EREMOTEIO); })});
    } catch (const Napi::Error&) {
      call->Settle(-EREMOTEIO);  // lib/ keeps the error itself
    }
  });
  int error;
  {
    std::unique_lock<std::mutex> lock(call->mutex);
    call->settled.wait(lock, [&] { return call->done; });
    error = call->error;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  calls_.erase(call);
  return error;
}

void JsTarget::Cancel() {
  std::lock_guard<std::mutex> lock(mutex_);
  cancelled_ = true;
  for (const auto& call : calls_) call->Settle(-ECANCELED);
}

}  // namespace snapbak
