// SPDX-License-Identifier: MIT
// NativeReplay of lib/binding.ts: a running verify or restore.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <vector>

#include "../copy/file_target.h"
#include "../copy/image_replay.h"
#include "addon_data.h"
#include "thread_pool.h"

namespace snapbak {

class ReplayWrap : public Napi::ObjectWrap<ReplayWrap>, public Stoppable {
 public:
  static Napi::Function Define(Napi::Env env);
  // replay(options): a NativeReplay, running.
  static Napi::Value Create(const Napi::CallbackInfo& info);

  explicit ReplayWrap(const Napi::CallbackInfo& info);
  ~ReplayWrap() override;

  void StopNow() override;

 private:
  // Shared with the thread that runs it.
  struct Job {
    std::unique_ptr<ChecksumFile> checksums;
    std::unique_ptr<FileTarget> target;
    std::unique_ptr<ImageReplay> replay;
    std::vector<Extent> extents;
    std::vector<uint64_t> skip;
    std::mutex mutex;
    std::vector<uint64_t> bad;  // guarded by mutex; the first thousand
  };

  Napi::Value Finished(const Napi::CallbackInfo& info);
  Napi::Value Stats(const Napi::CallbackInfo& info);
  Napi::Value Cancel(const Napi::CallbackInfo& info);

  AddonData* data_;
  std::shared_ptr<Job> job_;
  std::unique_ptr<ThreadPool> thread_;
  Napi::Reference<Napi::Promise> finished_;
};

}  // namespace snapbak
