// SPDX-License-Identifier: MIT
#include "exportable.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "convert.h"

namespace snapbak {

Exportable::Exportable(std::shared_ptr<ExportedDevice> device, std::function<Outcome()> at_close)
    : state_(std::make_shared<State>()) {
  state_->device = std::move(device);
  state_->at_close = std::move(at_close);
}

// Whoever waits in the device comes back, then the threads end, then it is given back.
Outcome Exportable::State::End() {
  if (std::exchange(done, true)) return {};
  device->Shutdown();
  servers.clear();
  readers.Join();
  return at_close ? at_close() : Outcome{};
}

Napi::Value Exportable::Read(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToU64(info[0], "offset");
  const uint32_t length = ToU32(info[1], "length");
  Settler settler(info.Env(), AddonData::Of(info.Env())->queue);
  const uint64_t size = state_->device->size();
  if (offset > size || length > size - offset) {
    settler.Settle({-EINVAL, "read"});
    return settler.promise();
  }
  const bool accepted = !closing_ && state_->readers.Run([state = state_.get(), offset, length, settler] {
    auto bytes = std::make_shared<std::vector<uint8_t>>(length);
    const int ret = state->device->Read(offset, bytes->data(), length);
    settler.Settle({ret, "read"}, [bytes](Napi::Env env) -> Napi::Value {
      return Napi::Buffer<uint8_t>::Copy(env, bytes->data(), bytes->size());
    });
  });
  if (!accepted) settler.Settle({-EBADF, "read"});
  return settler.promise();
}

Napi::Value Exportable::Serve(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  // exports that have ended leave sockets, threads and mappings behind
  auto& servers = state_->servers;
  if (!closing_) {
    servers.erase(
        std::remove_if(servers.begin(), servers.end(), [](const auto& one) { return one->ended(); }),
        servers.end());
  }
  std::vector<UniqueFd> peers;
  std::unique_ptr<ExportServer> server;
  const int ret =
      closing_ ? -EBADF : ExportServer::Start(state_->device, ToU32(info[0], "connections"), &peers, &server);
  if (ret != 0) throw MakeError(env, {ret, "serve"});
  servers.push_back(std::move(server));
  Napi::Array fds = Napi::Array::New(env, peers.size());
  for (uint32_t i = 0; i < fds.Length(); ++i) fds.Set(i, Napi::Number::New(env, peers[i].Release()));
  return fds;
}

Napi::Value Exportable::Close(const Napi::CallbackInfo& info) {
  if (closing_) return closed_.Value();
  closing_ = true;
  const auto queue = AddonData::Of(info.Env())->queue;
  Settler settler(info.Env(), queue);
  closed_ = Napi::Persistent(settler.promise());
  // alive until the closer is through
  auto self = std::make_shared<Napi::ObjectReference>(Napi::Persistent(info.This().As<Napi::Object>()));
  closer_.Run([state = state_.get(), settler, queue, self]() mutable {
    settler.Settle(state->End());
    queue->Post([self = std::move(self)](Napi::Env) {});
  });
  return settler.promise();
}

void Exportable::StopNow() {
  closing_ = true;
  state_->device->Shutdown();
  closer_.Join();
  state_->End();
}

Napi::Function ExportableWrap::Define(Napi::Env env) {
  return DefineClass(env, "NativeExportable",
                     {
                         InstanceMethod<&ExportableWrap::Read>("read"),
                         InstanceMethod<&ExportableWrap::Serve>("serve"),
                         InstanceMethod<&ExportableWrap::Close>("close"),
                     });
}

Napi::Object ExportableWrap::Wrap(Napi::Env env, std::shared_ptr<ExportedDevice> device,
                                  std::function<Outcome()> at_close) {
  Napi::Object object = AddonData::Of(env)->exportable_class.New({});
  Unwrap(object)->parts_ = std::make_unique<Exportable>(std::move(device), std::move(at_close));
  return object;
}

std::shared_ptr<ExportedDevice> ExportableWrap::DeviceOf(const Napi::Value& value) {
  const Napi::Env env = value.Env();
  const bool wrapped =
      value.IsObject() && value.As<Napi::Object>().InstanceOf(AddonData::Of(env)->exportable_class.Value());
  if (!wrapped) throw Napi::TypeError::New(env, "device is not a NativeExportable");
  auto device = Unwrap(value.As<Napi::Object>())->parts_->device();
  if (!device) throw MakeError(env, {-EBADF, "read"});
  return device;
}

ExportableWrap::ExportableWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ExportableWrap>(info), data_(AddonData::Of(info.Env())) {
  data_->sessions.insert(this);
}

void ExportableWrap::StopNow() {
  if (data_ == nullptr) return;
  if (parts_) parts_->StopNow();
  data_->sessions.erase(this);
  data_ = nullptr;
}

}  // namespace snapbak
