// SPDX-License-Identifier: MIT
#include "lazy_restore_wrap.h"

#include <string>
#include <utility>

#include "convert.h"
#include "notice_sender.h"

namespace snapbak {

namespace {

const char* KindName(LazyRestoreNotice::Kind kind) {
  switch (kind) {
    case LazyRestoreNotice::kBadBlock:
      return "bad-block";
    case LazyRestoreNotice::kFailed:
      return "failed";
    default:
      return "settled";
  }
}

Napi::Value NoticeObject(Napi::Env env, const LazyRestoreNotice& notice) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", KindName(notice.kind));
  object.Set("block", Num(env, notice.block));
  object.Set("errno", Napi::Number::New(env, notice.error));
  return object;
}

}  // namespace

Napi::Function LazyRestoreWrap::Define(Napi::Env env) {
  return DefineClass(env, "NativeLazyRestore",
                     {
                         InstanceMethod<&LazyRestoreWrap::Read>("read"),
                         InstanceMethod<&LazyRestoreWrap::Serve>("serve"),
                         InstanceMethod<&LazyRestoreWrap::Close>("close"),
                         InstanceMethod<&LazyRestoreWrap::Stats>("stats"),
                     });
}

Napi::Value LazyRestoreWrap::Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  AddonData* data = AddonData::Of(env);
  const Napi::Object options = info[0].As<Napi::Object>();
  LazyRestoreOptions lazy;
  lazy.image_size = ToU64(options.Get("imageSize"), "imageSize");
  lazy.block_size = ToU32(options.Get("blockSize"), "blockSize");
  lazy.threads = ToU32(options.Get("threads"), "threads");
  lazy.check = ToBool(options.Get("check"));
  lazy.fresh = ToBool(options.Get("fresh"));
  if (lazy.image_size == 0 || lazy.block_size == 0) throw MakeError(env, {-EINVAL, "open"});
  LowerDevice destination;
  const int ret =
      LowerDevice::Adopt(DuplicateFd(options.Get("destinationFd"), "destinationFd"), "", false, &destination);
  if (ret != 0) throw MakeError(env, {ret, "target"});
  auto checksums = std::make_unique<ChecksumFile>(DuplicateFd(options.Get("checksumsFd"), "checksumsFd"));
  const uint64_t blocks = (lazy.image_size - 1) / lazy.block_size + 1;
  auto state = std::make_unique<RestoreState>(DuplicateFd(options.Get("stateFd"), "stateFd"), blocks);
  auto restore = std::make_shared<LazyRestore>(
      DuplicateFd(options.Get("imageFd"), "imageFd"), std::move(checksums), std::move(destination),
      std::move(state), lazy,
      NoticeSender(options.Get("onNotice").As<Napi::Function>(), data->queue, &NoticeObject));
  Settler settler(env, data->queue);
  const std::string boot = options.Get("boot").As<Napi::String>();
  data->helper->Run([restore, extents = ToExtents(options.Get("extents"), "extents"), boot, settler] {
    const int error = restore->Open(extents, boot);
    settler.Settle({error, "state"}, [restore](Napi::Env env) -> Napi::Value {
      Napi::Object object = AddonData::Of(env)->lazy_restore_class.New({});
      LazyRestoreWrap* wrap = Unwrap(object);
      wrap->restore_ = restore;
      wrap->parts_ = std::make_unique<Exportable>(restore, [restore] {
        return Outcome{restore->Close(), "target"};
      });
      return object;
    });
  });
  return settler.promise();
}

LazyRestoreWrap::LazyRestoreWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<LazyRestoreWrap>(info), data_(AddonData::Of(info.Env())) {
  data_->sessions.insert(this);
}

void LazyRestoreWrap::StopNow() {
  if (data_ == nullptr) return;
  if (parts_) parts_->StopNow();
  data_->sessions.erase(this);
  data_ = nullptr;
}

Napi::Value LazyRestoreWrap::Stats(const Napi::CallbackInfo& info) {
  const LazyRestoreStats stats = restore_->Stats();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("totalBlocks", Num(info.Env(), stats.total_blocks));
  object.Set("hereBlocks", Num(info.Env(), stats.here_blocks));
  object.Set("badBlocks", Num(info.Env(), stats.bad_blocks));
  object.Set("demandBlocks", Num(info.Env(), stats.demand_blocks));
  object.Set("writtenBlocks", Num(info.Env(), stats.written_blocks));
  return object;
}

}  // namespace snapbak
