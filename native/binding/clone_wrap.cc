// SPDX-License-Identifier: MIT
#include "clone_wrap.h"

#include <errno.h>

#include <utility>

#include "convert.h"
#include "notice_sender.h"

namespace snapbak {

Napi::Function CloneWrap::Define(Napi::Env env) {
  return DefineClass(env, "NativeClone",
                     {
                         InstanceMethod<&CloneWrap::Read>("read"),
                         InstanceMethod<&CloneWrap::Serve>("serve"),
                         InstanceMethod<&CloneWrap::Close>("close"),
                         InstanceMethod<&CloneWrap::Finish>("finish"),
                         InstanceMethod<&CloneWrap::Stats>("stats"),
                     });
}

Napi::Value CloneWrap::Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  AddonData* data = AddonData::Of(env);
  const Napi::Object options = info[0].As<Napi::Object>();
  const uint64_t size = ToU64(options.Get("size"), "size");
  const uint32_t block_size = ToU32(options.Get("blockSize"), "blockSize");
  if (size == 0 || block_size == 0) throw MakeError(env, {-EINVAL, "open"});
  LowerDevice destination;
  const int ret =
      LowerDevice::Adopt(DuplicateFd(options.Get("destinationFd"), "destinationFd"), "", false, &destination);
  if (ret != 0) throw MakeError(env, {ret, "clone"});
  const auto lost = NoticeSender<int>(
      options.Get("onLost").As<Napi::Function>(), data->queue,
      [](Napi::Env env, const int& error) -> Napi::Value { return Napi::Number::New(env, error); });
  auto clone =
      std::make_shared<Clone>(std::move(destination), size, block_size, ToBool(options.Get("fresh")), lost);
  Napi::Object object = data->clone_class.New({});
  CloneWrap* wrap = Unwrap(object);
  wrap->clone_ = clone;
  wrap->parts_ = std::make_unique<Exportable>(clone, [clone] { return Outcome{clone->Close(), "clone"}; });
  wrap->finisher_ = std::make_unique<ThreadPool>("snapbak-clone", 1);
  return object;
}

std::shared_ptr<Clone> CloneWrap::Of(const Napi::Value& value) {
  const Napi::Object object = value.As<Napi::Object>();
  if (!object.InstanceOf(AddonData::Of(value.Env())->clone_class.Value())) {
    throw Napi::TypeError::New(value.Env(), "clone is not a NativeClone");
  }
  return Unwrap(object)->clone_;
}

CloneWrap::CloneWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<CloneWrap>(info), data_(AddonData::Of(info.Env())) {
  data_->sessions.insert(this);
}

void CloneWrap::StopNow() {
  if (data_ == nullptr) return;
  if (parts_) {
    clone_->Shutdown();
    finisher_->Join();
    parts_->StopNow();
  }
  data_->sessions.erase(this);
  data_ = nullptr;
}

// Not on the session's thread: the session may be closed by then, and a flush takes as long as it takes.
Napi::Value CloneWrap::Finish(const Napi::CallbackInfo& info) {
  Settler settler(info.Env(), AddonData::Of(info.Env())->queue);
  const bool accepted = finisher_->Run([clone = clone_, settler] {
    settler.Settle({clone->Finish(), "clone"});
  });
  if (!accepted) settler.Settle({-EBADF, "clone"});
  return settler.promise();
}

Napi::Value CloneWrap::Stats(const Napi::CallbackInfo& info) {
  const CloneStats stats = clone_->Stats();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("totalBlocks", Num(info.Env(), stats.total));
  object.Set("hereBlocks", Num(info.Env(), stats.here));
  object.Set("badBlocks", Num(info.Env(), stats.bad));
  object.Set("demands", Num(info.Env(), stats.demands));
  object.Set("writtenBlocks", Num(info.Env(), stats.written));
  return object;
}

}  // namespace snapbak
