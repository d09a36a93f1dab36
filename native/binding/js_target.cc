// SPDX-License-Identifier: MIT
#include "js_target.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <condition_variable>
#include <utility>
#include <vector>

namespace snapbak {

struct JsTarget::Call {
  // Of a read: where the bytes go, while the caller waits.
  uint8_t* into = nullptr;
  size_t length = 0;

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

  // The promise was fulfilled; of a read with all of the bytes, or it has failed.
  void Fulfil(const Napi::Value& value) {
    if (into == nullptr) return Settle(0);
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array ||
        value.As<Napi::TypedArray>().ByteLength() != length) {
      return Settle(-EREMOTEIO);
    }
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (done) return;
      memcpy(into, value.As<Napi::Uint8Array>().Data(), length);
    }
    Settle(0);
  }
};

struct JsTarget::Functions {
  Napi::ObjectReference object;
};

JsTarget::JsTarget(Napi::Object object, std::shared_ptr<MainQueue> queue)
    : queue_(std::move(queue)), functions_(std::make_shared<Functions>()) {
  functions_->object = Napi::Persistent(object);
  readable_ = object.Get("read").IsFunction();
}

JsTarget::~JsTarget() {
  // References die where they were made.
  queue_->Post([functions = std::move(functions_)](Napi::Env) {});
}

int JsTarget::Write(uint64_t offset, const void* data, size_t length) {
  return Invoke(std::make_shared<Call>(), "write",
                [offset, data, length](Napi::Env env) -> std::vector<napi_value> {
                  return {Napi::Number::New(env, static_cast<double>(offset)),
                          Napi::Buffer<uint8_t>::Copy(env, static_cast<const uint8_t*>(data), length)};
                });
}

int JsTarget::Read(uint64_t offset, void* data, size_t length, const std::atomic<bool>& stop) {
  auto call = std::make_shared<Call>();
  call->into = static_cast<uint8_t*>(data);
  call->length = length;
  const auto arguments = [offset, length](Napi::Env env) -> std::vector<napi_value> {
    return {Napi::Number::New(env, static_cast<double>(offset)),
            Napi::Number::New(env, static_cast<double>(length))};
  };
  const int error = Invoke(call, "read", arguments, &stop);
  std::lock_guard<std::mutex> lock(mutex_);
  return cancelled_ && error == -ECANCELED ? -ESHUTDOWN : error;
}

int JsTarget::WriteZeroes(uint64_t offset, uint64_t length) {
  // JavaScript targets know no holes: they get zeroes, a piece at a time.
  const std::vector<uint8_t> zeroes(static_cast<size_t>(std::min<uint64_t>(length, 1 << 20)), 0);
  while (length > 0) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(length, zeroes.size()));
    const int ret = Write(offset, zeroes.data(), n);
    if (ret != 0) return ret;
    offset += n;
    length -= n;
  }
  return 0;
}

int JsTarget::Flush() {
  return Invoke(std::make_shared<Call>(), "flush", [](Napi::Env) { return std::vector<napi_value>(); });
}

int JsTarget::Invoke(const std::shared_ptr<Call>& call, const char* method, Arguments arguments,
                     const std::atomic<bool>* stop) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // CancelReads() finds the call below, or `stop` was set before it came.
    if (cancelled_ || (stop != nullptr && *stop)) return -ECANCELED;
    calls_.insert(call);
  }
  queue_->Post([call, functions = functions_, method, arguments = std::move(arguments)](Napi::Env env) {
    Napi::Object target = functions->object.Value();
    try {
      std::vector<napi_value> given;
      {
        // What the caller gave is ours only while it waits.
        std::lock_guard<std::mutex> lock(call->mutex);
        if (call->done) return;
        given = arguments(env);
      }
      const Napi::Value result = target.Get(method).As<Napi::Function>().Call(target, given);
      Napi::Object promise_class = env.Global().Get("Promise").As<Napi::Object>();
      Napi::Object promise =
          promise_class.Get("resolve").As<Napi::Function>().Call(promise_class, {result}).As<Napi::Object>();
      promise.Get("then").As<Napi::Function>().Call(
          promise,
          {Napi::Function::New(env, [call](const Napi::CallbackInfo& info) { call->Fulfil(info[0]); }),
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

void JsTarget::CancelReads() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& call : calls_) {
    if (call->into != nullptr) call->Settle(-ECANCELED);
  }
}

void JsTarget::Cancel() {
  std::lock_guard<std::mutex> lock(mutex_);
  cancelled_ = true;
  for (const auto& call : calls_) call->Settle(-ECANCELED);
}

}  // namespace snapbak
