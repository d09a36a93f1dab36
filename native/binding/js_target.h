// SPDX-License-Identifier: MIT
// A target written in JavaScript, as the copy threads see it: each call goes to
// the JavaScript thread and waits for the promise. So as many writes are under
// way as there are copy threads: that bounds the memory and is the back-pressure.
// Reads come from point-in-time views, a thread each, in the same way.
#pragma once

#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "../copy/target.h"
#include "main_queue.h"

namespace snapbak {

class JsTarget : public Target {
 public:
  // JavaScript thread. `object` has write(offset, data) and flush(), and perhaps read(offset, length).
  JsTarget(Napi::Object object, std::shared_ptr<MainQueue> queue);
  ~JsTarget() override;

  int Write(uint64_t offset, const void* data, size_t length) override;
  int WriteZeroes(uint64_t offset, uint64_t length) override;
  int Flush() override;
  bool readable() const override { return readable_; }
  int Read(uint64_t offset, void* data, size_t length, const std::atomic<bool>& stop) override;
  void CancelReads() override;

  // Any thread: calls under way and to come end with -ECANCELED at once, reads with -ESHUTDOWN.
  void Cancel();

 private:
  struct Call;
  struct Functions;

  // Calls a method of the object, and waits. `arguments` may use memory of the caller: the call cannot end
  // meanwhile. With `stop` set, it does not begin.
  using Arguments = std::function<std::vector<napi_value>(Napi::Env)>;
  int Invoke(const std::shared_ptr<Call>& call, const char* method, Arguments arguments,
             const std::atomic<bool>* stop = nullptr);

  std::shared_ptr<MainQueue> queue_;
  std::shared_ptr<Functions> functions_;  // used and destroyed on the JavaScript thread
  std::mutex mutex_;
  std::set<std::shared_ptr<Call>> calls_;  // guarded by mutex_
  bool cancelled_ = false;                 // guarded by mutex_
  bool readable_;
};

}  // namespace snapbak
