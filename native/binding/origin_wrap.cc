// SPDX-License-Identifier: MIT
#include "origin_wrap.h"

#include <errno.h>

#include <thread>
#include <utility>
#include <vector>

#include "convert.h"

namespace snapbak {

namespace {

constexpr unsigned kReaders = 4;
constexpr unsigned kWriters = 16;

}  // namespace

Napi::Function OriginWrap::Define(Napi::Env env) {
  return DefineClass(env, "NativeOrigin",
                     {
                         InstanceMethod<&OriginWrap::Read>("read"),
                         InstanceMethod<&OriginWrap::Write>("write"),
                         InstanceMethod<&OriginWrap::WriteZeroes>("writeZeroes"),
                         InstanceMethod<&OriginWrap::Discard>("discard"),
                         InstanceMethod<&OriginWrap::Flush>("flush"),
                         InstanceMethod<&OriginWrap::Close>("close"),
                         InstanceAccessor<&OriginWrap::Size>("size"),
                         InstanceAccessor<&OriginWrap::IsBlockDevice>("isBlockDevice"),
                     });
}

Napi::Value OriginWrap::Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = info[0].As<Napi::String>();
  EngineOptions options;
  options.read_only = ToBool(info[1]);
  std::unique_ptr<Engine> opened;
  // Opening a file or a device node does not block for long; the promise is for the interface.
  const int ret = Engine::Open(path, options, &opened);
  Settler settler(env, AddonData::Of(env)->queue);
  std::shared_ptr<Engine> engine = std::move(opened);
  settler.Settle({ret, "open"}, [engine](Napi::Env env) -> Napi::Value {
    Napi::Object object = AddonData::Of(env)->origin_class.New({});
    Unwrap(object)->engine_ = engine;
    return object;
  });
  return settler.promise();
}

OriginWrap::OriginWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<OriginWrap>(info),
      data_(AddonData::Of(info.Env())),
      readers_(std::make_unique<ThreadPool>("snapbak-read", kReaders)),
      writers_(std::make_unique<ThreadPool>("snapbak-write", kWriters)),
      closer_(std::make_unique<ThreadPool>("snapbak-close", 1)) {
  data_->origins.insert(this);
}

OriginWrap::~OriginWrap() { StopNow(); }

void OriginWrap::StopNow() {
  if (data_ == nullptr) return;
  data_->origins.erase(this);
  data_ = nullptr;
  if (engine_) engine_->Close();  // held writes go on, so the writers end
  closer_->Join();
  writers_->Join();
  readers_->Join();
}

Napi::Value OriginWrap::Submit(Napi::Env env, ThreadPool* pool, const char* stage,
                               std::function<int(Engine*)> work) {
  Settler settler(env, data_->queue);
  const bool accepted = engine_ && pool->Run([engine = engine_, work = std::move(work), settler, stage] {
    settler.Settle({work(engine.get()), stage});
  });
  if (!accepted) settler.Settle({-EBADF, stage});
  return settler.promise();
}

Napi::Value OriginWrap::Read(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToU64(info[0], "offset");
  const uint32_t length = ToU32(info[1], "length");
  Settler settler(info.Env(), data_->queue);
  const bool accepted = engine_ && readers_->Run([engine = engine_, offset, length, settler] {
    auto bytes = std::make_shared<std::vector<uint8_t>>(length);
    const int ret = engine->Read(bytes->data(), length, offset);
    settler.Settle({ret, "read"}, [bytes](Napi::Env env) -> Napi::Value {
      return Napi::Buffer<uint8_t>::Copy(env, bytes->data(), bytes->size());
    });
  });
  if (!accepted) settler.Settle({-EBADF, "read"});
  return settler.promise();
}

Napi::Value OriginWrap::Write(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToU64(info[0], "offset");
  const auto view = info[1].As<Napi::Uint8Array>();
  auto bytes = std::make_shared<std::vector<uint8_t>>(view.Data(), view.Data() + view.ByteLength());
  const bool fua = ToBool(info[2]);
  return Submit(info.Env(), writers_.get(), "write", [offset, bytes, fua](Engine* engine) {
    return engine->Write(bytes->data(), static_cast<uint32_t>(bytes->size()), offset, fua);
  });
}

Napi::Value OriginWrap::WriteZeroes(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToU64(info[0], "offset");
  const uint64_t length = ToU64(info[1], "length");
  ZeroOptions options;
  options.fua = ToBool(info[2]);
  options.may_trim = ToBool(info[3]);
  return Submit(info.Env(), writers_.get(), "write-zeroes", [offset, length, options](Engine* engine) {
    return engine->WriteZeroes(offset, length, options);
  });
}

Napi::Value OriginWrap::Discard(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToU64(info[0], "offset");
  const uint64_t length = ToU64(info[1], "length");
  return Submit(info.Env(), writers_.get(), "discard",
                [offset, length](Engine* engine) { return engine->Discard(offset, length, false); });
}

Napi::Value OriginWrap::Flush(const Napi::CallbackInfo& info) {
  // Not among the writers: a flush must not wait for a free one behind held writes.
  return Submit(info.Env(), readers_.get(), "flush", [](Engine* engine) { return engine->Flush(); });
}

Napi::Value OriginWrap::Close(const Napi::CallbackInfo& info) {
  // The pools refuse work once they are joined, so a second close only settles.
  Settler settler(info.Env(), data_->queue);
  const bool accepted = closer_->Run([this, engine = engine_, settler] {
    if (engine) engine->Close();
    writers_->Join();
    readers_->Join();
    settler.Settle({});
  });
  if (!accepted) {
    settler.Settle({});
    return settler.promise();
  }
  // Alive until the closer thread is through.
  auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info.This().As<Napi::Object>()));
  closer_->Run(
      [queue = data_->queue, self]() mutable { queue->Post([self = std::move(self)](Napi::Env) {}); });
  engine_.reset();
  return settler.promise();
}

Napi::Value OriginWrap::Size(const Napi::CallbackInfo& info) {
  return Num(info.Env(), engine_ ? engine_->size() : 0);
}

Napi::Value OriginWrap::IsBlockDevice(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), engine_ && engine_->lower().is_block_device());
}

}  // namespace snapbak
