// SPDX-License-Identifier: MIT
// What the addon keeps for one environment (main thread or worker): the queue
// to its JavaScript thread, its classes, and the objects that own threads, so
// that they end before the environment does.
#pragma once

#include <napi.h>

#include <memory>
#include <set>

#include "main_queue.h"
#include "thread_pool.h"

namespace snapbak {

// Something with threads; stopped when the environment goes.
class Stoppable {
 public:
  virtual ~Stoppable() = default;
  // JavaScript thread; blocks until no thread of it needs the environment.
  virtual void StopNow() = 0;
};

struct AddonData {
  std::shared_ptr<MainQueue> queue;
  std::unique_ptr<ThreadPool> helper;  // work that belongs to no object
  std::unique_ptr<ThreadPool> flush;   // writing what is dirty, which takes as long as a device does
  Napi::FunctionReference origin_class;
  Napi::FunctionReference session_class;
  Napi::FunctionReference replay_class;
  Napi::FunctionReference exportable_class;
  Napi::FunctionReference lazy_restore_class;
  Napi::FunctionReference clone_class;
  std::set<Stoppable*> sessions;  // stopped before the origins that they use
  std::set<Stoppable*> origins;

  static AddonData* Of(Napi::Env env) { return env.GetInstanceData<AddonData>(); }
};

}  // namespace snapbak
