// SPDX-License-Identifier: MIT
#include "main_queue.h"

#include <string.h>

#include <string>
#include <utility>

namespace snapbak {

std::shared_ptr<MainQueue> MainQueue::Create(Napi::Env env) {
  auto queue = std::make_shared<MainQueue>();
  napi_value name = Napi::String::New(env, "snapbak");
  NAPI_THROW_IF_FAILED(env,
                       napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr,
                                                       queue.get(), &MainQueue::Drain, &queue->function_),
                       nullptr);
  napi_unref_threadsafe_function(env, queue->function_);
  return queue;
}

void MainQueue::Post(Task task) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  const bool idle = tasks_.empty();
  tasks_.push_back(std::move(task));
  if (idle) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void MainQueue::Drain(napi_env env, napi_value, void* context, void*) {
  if (env == nullptr) return;  // the environment is going
  // Kept alive here: a task may be the last to know the queue.
  auto queue = static_cast<MainQueue*>(context)->shared_from_this();
  std::deque<Task> tasks;
  {
    std::lock_guard<std::mutex> lock(queue->mutex_);
    if (queue->closed_) return;
    tasks.swap(queue->tasks_);
  }
  for (Task& task : tasks) {
    Napi::HandleScope scope(env);
    try {
      task(Napi::Env(env));
    } catch (const Napi::Error& error) {
      // A callback of the user threw: as uncaught as anywhere else.
      napi_fatal_exception(env, error.Value());
    }
    task = nullptr;
  }
}

void MainQueue::Hold(Napi::Env env) {
  if (holds_++ == 0) napi_ref_threadsafe_function(env, function_);
}

void MainQueue::Release(Napi::Env env) {
  if (--holds_ == 0) napi_unref_threadsafe_function(env, function_);
}

void MainQueue::Shutdown() {
  std::deque<Task> dropped;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return;
    closed_ = true;
    dropped.swap(tasks_);
  }
  napi_release_threadsafe_function(function_, napi_tsfn_abort);
}

Settler::Settler(Napi::Env env, std::shared_ptr<MainQueue> queue)
    : deferred_(std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env))),
      queue_(std::move(queue)) {
  queue_->Hold(env);
}

void Settler::Settle(Outcome outcome, std::function<Napi::Value(Napi::Env)> value) const {
  queue_->Post([deferred = deferred_, queue = queue_, outcome, value = std::move(value)](Napi::Env env) {
    queue->Release(env);
    if (outcome.error != 0) return deferred->Reject(MakeError(env, outcome).Value());
    try {
      deferred->Resolve(value ? value(env) : env.Undefined());
    } catch (const Napi::Error& error) {
      deferred->Reject(error.Value());  // no memory for a large answer
    }
  });
}

Napi::Error MakeError(Napi::Env env, const Outcome& outcome) {
  const std::string message = std::string(outcome.stage) + ": " + strerror(-outcome.error);
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("errno", Napi::Number::New(env, outcome.error));
  error.Set("stage", Napi::String::New(env, outcome.stage));
  if (outcome.device != 0) {
    error.Set("device", Napi::Number::New(env, static_cast<double>(outcome.device)));
  }
  return error;
}

}  // namespace snapbak
