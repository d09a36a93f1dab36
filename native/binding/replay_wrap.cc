// SPDX-License-Identifier: MIT
#include "replay_wrap.h"

#include <algorithm>
#include <utility>

#include "convert.h"

namespace snapbak {

namespace {

constexpr size_t kBadKept = 1000;

Napi::Object StatsOf(Napi::Env env, const ReplayStats& stats) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("doneBytes", Num(env, stats.done_bytes));
  object.Set("zeroBytes", Num(env, stats.zero_bytes));
  object.Set("badBlocks", Num(env, stats.bad_blocks));
  return object;
}

const char* StageName(int stage) {
  static constexpr const char* kNames[] = {"replay", "image", "checksums", "target"};
  return stage >= 0 && stage < 4 ? kNames[stage] : kNames[0];
}

}  // namespace

Napi::Function ReplayWrap::Define(Napi::Env env) {
  return DefineClass(env, "NativeReplay",
                     {
                         InstanceAccessor<&ReplayWrap::Finished>("finished"),
                         InstanceMethod<&ReplayWrap::Stats>("stats"),
                         InstanceMethod<&ReplayWrap::Cancel>("cancel"),
                     });
}

Napi::Value ReplayWrap::Create(const Napi::CallbackInfo& info) {
  return AddonData::Of(info.Env())->replay_class.New({info[0]});
}

ReplayWrap::ReplayWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ReplayWrap>(info),
      data_(AddonData::Of(info.Env())),
      job_(std::make_shared<Job>()),
      thread_(std::make_unique<ThreadPool>("snapbak-replay", 1)) {
  const Napi::Object options = info[0].As<Napi::Object>();
  job_->checksums = std::make_unique<ChecksumFile>(DuplicateFd(options.Get("checksumsFd"), "checksumsFd"));
  if (options.Get("target").IsObject()) {
    const Napi::Object target = options.Get("target").As<Napi::Object>();
    job_->target =
        std::make_unique<FileTarget>(DuplicateFd(target.Get("fd"), "target.fd"), ToBool(target.Get("fresh")));
  }
  ReplayOptions replay;
  replay.image_size = ToU64(options.Get("imageSize"), "imageSize");
  replay.block_size = ToU32(options.Get("blockSize"), "blockSize");
  replay.threads = ToU32(options.Get("threads"), "threads");
  replay.check = ToBool(options.Get("check"));
  job_->extents = ToExtents(options.Get("extents"), "extents");
  const auto skip = options.Get("skip").As<Napi::Float64Array>();
  for (size_t i = 0; i < skip.ElementLength(); ++i) job_->skip.push_back(static_cast<uint64_t>(skip[i]));
  Job* job = job_.get();
  job_->replay =
      std::make_unique<ImageReplay>(DuplicateFd(options.Get("imageFd"), "imageFd"), job_->checksums.get(),
                                    job_->target.get(), replay, [job](uint64_t block) {
                                      std::lock_guard<std::mutex> lock(job->mutex);
                                      if (job->bad.size() < kBadKept) job->bad.push_back(block);
                                    });
  Settler settler(info.Env(), data_->queue);
  Ref();  // not collected, and so cancelled, while it runs
  thread_->Run([this, job = job_, queue = data_->queue, settler] {
    int ret = job->replay->Run(job->extents, job->skip);
    const char* stage = StageName(job->replay->error_stage());
    if (ret == 0 && job->target) {
      ret = job->target->Flush();
      stage = "target";
    }
    // A device that was restored must be free again when the promise says so, not when this is collected.
    job->replay->Close();
    job->checksums.reset();
    job->target.reset();
    settler.Settle({ret, stage}, [job](Napi::Env env) -> Napi::Value {
      Napi::Object result = StatsOf(env, job->replay->Stats());
      std::lock_guard<std::mutex> lock(job->mutex);
      std::sort(job->bad.begin(), job->bad.end());
      Napi::Array bad = Napi::Array::New(env, job->bad.size());
      for (size_t i = 0; i < job->bad.size(); ++i) bad.Set(static_cast<uint32_t>(i), Num(env, job->bad[i]));
      result.Set("bad", bad);
      return result;
    });
    queue->Post([this](Napi::Env) { Unref(); });
  });
  finished_ = Napi::Persistent(settler.promise());
  data_->sessions.insert(this);
}

ReplayWrap::~ReplayWrap() { StopNow(); }

void ReplayWrap::StopNow() {
  if (data_ == nullptr) return;
  job_->replay->Cancel();
  thread_->Join();
  data_->sessions.erase(this);
  data_ = nullptr;
}

Napi::Value ReplayWrap::Finished(const Napi::CallbackInfo&) { return finished_.Value(); }

Napi::Value ReplayWrap::Stats(const Napi::CallbackInfo& info) {
  return StatsOf(info.Env(), job_->replay->Stats());
}

Napi::Value ReplayWrap::Cancel(const Napi::CallbackInfo& info) {
  job_->replay->Cancel();
  return info.Env().Undefined();
}

}  // namespace snapbak
