// SPDX-License-Identifier: MIT
#include "session_wrap.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "clone_wrap.h"
#include "convert.h"
#include "exportable.h"
#include "notice_sender.h"
#include "origin_wrap.h"

namespace snapbak {

namespace {

Napi::Value NoticeObject(Napi::Env env, const Notice& notice) {
  static constexpr const char* kNames[] = {"",           "need-work",    "complete", "invalid",
                                           "tier2-lost", "target-error", "broken",   "driver-gone",
                                           "tier2-data", "hint"};
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", kNames[static_cast<int>(notice.kind)]);
  object.Set("errno", Napi::Number::New(env, notice.error));
  if (notice.kind == NoticeKind::kInvalid) object.Set("block", Num(env, notice.block));
  if (notice.kind == NoticeKind::kTier2Lost || notice.kind == NoticeKind::kTier2Data) {
    object.Set("tier", Napi::Number::New(env, notice.value));
  }
  if (notice.kind == NoticeKind::kBroken) object.Set("reason", ReasonName(notice.value));
  return object;
}

SessionCore::Setup::Tier ToTier(const Napi::Object& object) {
  SessionCore::Setup::Tier tier;
  tier.fd = DuplicateFd(object.Get("fd"), "tiers.fd");
  tier.direct = ToBool(object.Get("direct"));
  tier.areas = {{0, ToU64(object.Get("capacity"), "tiers.capacity")}};
  if (object.Has("areas")) tier.areas = ToExtents(object.Get("areas"), "tiers.areas");
  return tier;
}

SessionCore::Setup ToSetup(const Napi::Object& options, AddonData* data) {
  SessionCore::Setup setup;
  setup.block_size = ToU32(options.Get("blockSize"), "blockSize");
  setup.slots = ToU32(options.Get("slots"), "slots");
  if (setup.block_size < (1u << SNAPBAK_MIN_BLOCK_SHIFT) ||
      (setup.block_size & (setup.block_size - 1)) != 0) {
    throw Napi::RangeError::New(options.Env(), "blockSize is not a power of two from 4096 on");
  }
  const std::string on_full = options.Get("onFull").As<Napi::String>();
  setup.on_full = on_full == "hold" ? SNAPBAK_ON_FULL_HOLD : SNAPBAK_ON_FULL_BREAK;
  setup.hold_timeout_ms = ToU64(options.Get("holdTimeoutMs"), "holdTimeoutMs");
  setup.stall_timeout_ms = ToU64(options.Get("stallTimeoutMs"), "stallTimeoutMs");
  setup.heat = ToBool(options.Get("heat"));
  setup.listed = ToExtents(options.Get("listed"), "listed");
  setup.checksums = DuplicateFd(options.Get("checksumsFd"), "checksumsFd");

  const Napi::Object target = options.Get("target").As<Napi::Object>();
  if (target.Has("fd")) {
    setup.target =
        std::make_shared<FileTarget>(DuplicateFd(target.Get("fd"), "target.fd"), ToBool(target.Get("fresh")));
  } else {
    setup.js_target = std::make_shared<JsTarget>(target, data->queue);
    setup.target = setup.js_target;
  }
  const Napi::Array tiers = options.Get("tiers").As<Napi::Array>();
  for (uint32_t i = 0; i < tiers.Length(); i++)
    setup.tiers.push_back(ToTier(tiers.Get(i).As<Napi::Object>()));
  setup.options.watermark_low = ToU32(options.Get("watermarkLow"), "watermarkLow");
  setup.options.drain_to = ToU32(options.Get("drainTo"), "drainTo");
  setup.options.copy_threads = ToU32(options.Get("copyThreads"), "copyThreads");
  setup.options.read_bytes = ToU32(options.Get("readBytes"), "readBytes");
  if (options.Has("clone")) setup.clone = CloneWrap::Of(options.Get("clone"));
  setup.notify = NoticeSender(options.Get("onNotice").As<Napi::Function>(), data->queue, &NoticeObject);
  return setup;
}

Napi::Value InstantObject(Napi::Env env, const snapbak_start& start) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("startTime", Napi::Number::New(env, static_cast<double>(start.start_realtime_ns) / 1e6));
  object.Set("armNs", Num(env, start.arm_ns));
  object.Set("freezeNs", Num(env, start.freeze_ns));
  return object;
}

}  // namespace

Napi::Function SessionWrap::Define(Napi::Env env) {
  return DefineClass(env, "NativeSession",
                     {
                         InstanceMethod<&SessionWrap::Open>("open"),
                         InstanceMethod<&SessionWrap::Status>("status"),
                         InstanceMethod<&SessionWrap::Hint>("hint"),
                         InstanceMethod<&SessionWrap::TakeHints>("takeHints"),
                         InstanceMethod<&SessionWrap::Heat>("heat"),
                         InstanceMethod<&SessionWrap::Prepare>("prepare"),
                         InstanceMethod<&SessionWrap::Flush>("flush"),
                         InstanceMethod<&SessionWrap::Start>("start"),
                         InstanceMethod<&SessionWrap::StartTogether>("startTogether"),
                         InstanceMethod<&SessionWrap::PushWork>("pushWork"),
                         InstanceMethod<&SessionWrap::NextPending>("nextPending"),
                         InstanceMethod<&SessionWrap::SetPaused>("setPaused"),
                         InstanceMethod<&SessionWrap::SetThrottle>("setThrottle"),
                         InstanceMethod<&SessionWrap::ResizeTier>("resizeTier"),
                         InstanceMethod<&SessionWrap::Unlist>("unlist"),
                         InstanceMethod<&SessionWrap::OpenView>("openView"),
                         InstanceMethod<&SessionWrap::Stats>("stats"),
                         InstanceMethod<&SessionWrap::Finish>("finish"),
                         InstanceMethod<&SessionWrap::Abort>("abort"),
                         InstanceMethod<&SessionWrap::Close>("close"),
                     });
}

Napi::Value SessionWrap::Create(const Napi::CallbackInfo& info) {
  return AddonData::Of(info.Env())->session_class.New({info[0]});
}

SessionWrap::SessionWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<SessionWrap>(info),
      data_(AddonData::Of(info.Env())),
      thread_(std::make_unique<ThreadPool>("snapbak-session", 1)) {
  const Napi::Object where = info[0].As<Napi::Object>();
  if (where.Has("origin")) {
    const Napi::Object origin = where.Get("origin").As<Napi::Object>();
    if (!origin.InstanceOf(data_->origin_class.Value())) {
      throw Napi::TypeError::New(info.Env(), "origin is not a NativeOrigin");
    }
    auto engine = OriginWrap::Unwrap(origin)->engine();
    if (!engine) throw MakeError(info.Env(), {-EBADF, "open"});
    core_ = std::make_shared<SessionCore>(std::move(engine));
  } else if (where.Has("device")) {
    core_ = std::make_shared<SessionCore>(SessionCore::Device{ToU64(where.Get("device"), "device")});
  } else {
    core_ = std::make_shared<SessionCore>(std::string(where.Get("socket").As<Napi::String>()));
  }
  data_->sessions.insert(this);
}

SessionWrap::~SessionWrap() { StopNow(); }

void SessionWrap::StopNow() {
  if (data_ == nullptr) return;
  if (js_target_) js_target_->Cancel();  // the session's threads may wait for the thread that we are on
  thread_->Join();
  core_->Close();
  data_->sessions.erase(this);
  data_ = nullptr;
}

// Of a finished session only views use the target, and they do not end with it.
void SessionWrap::CancelTarget() {
  if (js_target_ && !core_->finished()) js_target_->Cancel();
}

void SessionWrap::KeepAlive(Napi::Env env, bool alive) {
  if (alive == alive_) return;
  alive_ = alive;
  if (alive) {
    Ref();  // not collected while it runs
    data_->queue->Hold(env);
  } else {
    Unref();
    data_->queue->Release(env);
  }
}

Napi::Value SessionWrap::Submit(Napi::Env env, std::function<Outcome(SessionCore*)> work,
                                std::function<Napi::Value(Napi::Env)> value) {
  Settler settler(env, data_->queue);
  const bool accepted = thread_->Run([core = core_, work = std::move(work), value = std::move(value),
                                      settler] { settler.Settle(work(core.get()), value); });
  if (!accepted) settler.Settle({-EBADF, "closed"});
  return settler.promise();
}

Napi::Value SessionWrap::Open(const Napi::CallbackInfo& info) {
  auto query = std::make_shared<snapbak_query>();
  auto open = std::make_shared<snapbak_open>();
  return Submit(
      info.Env(), [query, open](SessionCore* core) { return core->Open(query.get(), open.get()); },
      [query, open](Napi::Env env) { return InfoObject(env, *query, *open); });
}

Napi::Value SessionWrap::Status(const Napi::CallbackInfo& info) {
  auto status = std::make_shared<snapbak_status>();
  return Submit(
      info.Env(), [status](SessionCore* core) { return core->Status(status.get()); },
      [status](Napi::Env env) { return StatusObject(env, *status); });
}

Napi::Value SessionWrap::Hint(const Napi::CallbackInfo& info) {
  std::vector<Extent> extents = ToExtents(info[0], "extents");
  return Submit(info.Env(),
                [extents = std::move(extents)](SessionCore* core) { return core->Hint(extents); });
}

Napi::Value SessionWrap::TakeHints(const Napi::CallbackInfo& info) {
  std::vector<Extent> hints;
  core_->WithCopy([&](CopySession* copy) { hints = copy->TakeHints(); });
  return FlatExtents(info.Env(), hints);
}

Napi::Value SessionWrap::Heat(const Napi::CallbackInfo& info) {
  HeatPicture heat;
  core_->WithCopy([&](CopySession* copy) { heat = copy->Heat(); });
  return HeatObject(info.Env(), heat);
}

Napi::Value SessionWrap::Prepare(const Napi::CallbackInfo& info) {
  auto setup = std::make_shared<SessionCore::Setup>(ToSetup(info[0].As<Napi::Object>(), data_));
  js_target_ = setup->js_target;
  return Submit(info.Env(), [setup](SessionCore* core) { return core->Prepare(std::move(*setup)); });
}

// Not on the session's thread: close() must not wait for it. Errors are START's to tell.
Napi::Value SessionWrap::Flush(const Napi::CallbackInfo& info) {
  Settler settler(info.Env(), data_->queue);
  const bool accepted = thread_->Run([core = core_, pool = data_->flush.get(), settler] {
    const auto flush = [lower = core->ToFlush(), settler] {
      if (lower) fdatasync(lower->get());
      settler.Settle({});
    };
    if (!pool->Run(flush)) settler.Settle({-EBADF, "closed"});
  });
  if (!accepted) settler.Settle({-EBADF, "closed"});
  return settler.promise();
}

Napi::Value SessionWrap::Start(const Napi::CallbackInfo& info) {
  const uint64_t timeout_ms = ToU64(info[0], "timeoutMs");
  auto start = std::make_shared<snapbak_start>();
  KeepAlive(info.Env(), true);
  return Submit(
      info.Env(), [start, timeout_ms](SessionCore* core) { return core->Start(timeout_ms, start.get()); },
      [start](Napi::Env env) { return InstantObject(env, *start); });
}

// Of the first session, with all of them: an array of promises, one each.
Napi::Value SessionWrap::StartTogether(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Napi::Array sessions = info[0].As<Napi::Array>();
  std::vector<SessionWrap*> members;
  for (uint32_t i = 0; i < sessions.Length(); i++) {
    const Napi::Object object = sessions.Get(i).As<Napi::Object>();
    if (!object.InstanceOf(data_->session_class.Value())) {
      throw Napi::TypeError::New(env, "sessions has something that is no NativeSession");
    }
    members.push_back(Unwrap(object));
  }
  auto group = std::make_shared<GroupStart>(members.size(), ToU64(info[1], "timeoutMs"));
  Napi::Array promises = Napi::Array::New(env, members.size());
  for (uint32_t i = 0; i < members.size(); i++) promises.Set(i, members[i]->StartIn(env, group, i));
  return promises;
}

Napi::Value SessionWrap::StartIn(Napi::Env env, std::shared_ptr<GroupStart> group, size_t number) {
  auto start = std::make_shared<snapbak_start>();
  KeepAlive(env, true);
  Settler settler(env, data_->queue);
  const bool accepted = thread_->Run([core = core_, start, settler, group, number] {
    settler.Settle(core->StartTogether(group.get(), number, start.get()),
                   [start](Napi::Env env) { return InstantObject(env, *start); });
  });
  if (!accepted) {
    group->Withdraw();
    settler.Settle({-EBADF, "closed"});
  }
  return settler.promise();
}

Napi::Value SessionWrap::PushWork(const Napi::CallbackInfo& info) {
  const std::vector<Extent> work = ToExtents(info[0], "extents");
  const bool priority = ToBool(info[1]);
  uint64_t pending = 0;
  core_->WithCopy([&](CopySession* copy) { pending = copy->PushWork(work, priority); });
  return Num(info.Env(), pending);
}

Napi::Value SessionWrap::NextPending(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToU64(info[0], "offset");
  const uint64_t end = ToU64(info[1], "end");
  uint64_t found = end;
  core_->WithCopy([&](CopySession* copy) {
    const uint64_t size = copy->block_size();
    found = std::min(end, copy->NextPending(offset / size, (end + size - 1) / size) * size);
  });
  return Num(info.Env(), found);
}

Napi::Value SessionWrap::SetPaused(const Napi::CallbackInfo& info) {
  const bool paused = ToBool(info[0]);
  core_->WithCopy([&](CopySession* copy) { copy->SetPaused(paused); });
  return info.Env().Undefined();
}

Napi::Value SessionWrap::SetThrottle(const Napi::CallbackInfo& info) {
  const Napi::Object setting = info[0].As<Napi::Object>();
  snapbak_throttle throttle{};
  throttle.begin = ToU32(setting.Get("begin"), "begin");
  throttle.full = ToU32(setting.Get("full"), "full");
  throttle.rate = ToU64(setting.Get("rate"), "rate");
  throttle.max_us = ToU32(setting.Get("maxUs"), "maxUs");
  core_->WithCopy([&](CopySession* copy) { copy->SetThrottle(throttle); });
  return info.Env().Undefined();
}

// Not by Submit(): it may take as long as draining takes, and the session's thread has other things to do.
Napi::Value SessionWrap::ResizeTier(const Napi::CallbackInfo& info) {
  const uint32_t tier = ToU32(info[0], "tier");
  const uint64_t bytes = ToU64(info[1], "bytes");
  Settler settler(info.Env(), data_->queue);
  const auto done = [settler](int error) { settler.Settle({error, "resize"}); };
  if (!core_->WithCopy([&](CopySession* copy) { copy->ResizeTier2(tier, bytes, done); })) done(-ECANCELED);
  return settler.promise();
}

Napi::Value SessionWrap::Unlist(const Napi::CallbackInfo& info) {
  const std::vector<Extent> extents = ToExtents(info[0], "extents");
  std::vector<Extent> taken;
  int error = -EBADF;
  core_->WithCopy([&](CopySession* copy) { error = copy->Unlist(extents, &taken); });
  if (error != 0) throw MakeError(info.Env(), {error, "unlist"});
  return FlatExtents(info.Env(), taken);
}

Napi::Value SessionWrap::OpenView(const Napi::CallbackInfo& info) {
  auto made = std::make_shared<std::shared_ptr<PointInTimeView>>();
  return Submit(
      info.Env(), [made](SessionCore* core) { return core->OpenView(made.get()); },
      [made](Napi::Env env) -> Napi::Value {
        return ExportableWrap::Wrap(env, *made, [view = *made] {
          view->Close();
          return Outcome{};
        });
      });
}

Napi::Value SessionWrap::Stats(const Napi::CallbackInfo& info) {
  CopyStats stats{};
  if (!core_->WithCopy([&](CopySession* copy) { stats = copy->Stats(); })) {
    throw MakeError(info.Env(), {-EBADF, "stats"});
  }
  return StatsObject(info.Env(), stats);
}

Napi::Value SessionWrap::Finish(const Napi::CallbackInfo& info) {
  return Submit(info.Env(), [](SessionCore* core) { return core->Finish(); });
}

Napi::Value SessionWrap::Abort(const Napi::CallbackInfo& info) {
  CancelTarget();
  return Submit(info.Env(), [](SessionCore* core) {
    core->Abort();
    return Outcome{};
  });
}

Napi::Value SessionWrap::Close(const Napi::CallbackInfo& info) {
  CancelTarget();
  Napi::Value done = Submit(info.Env(), [](SessionCore* core) {
    core->Close();
    return Outcome{};
  });
  KeepAlive(info.Env(), false);
  return done;
}

}  // namespace snapbak
