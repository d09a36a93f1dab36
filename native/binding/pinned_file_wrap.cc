// SPDX-License-Identifier: MIT
#include "pinned_file_wrap.h"

#include <errno.h>

#include <memory>

#include "../copy/pinned_file.h"
#include "addon_data.h"
#include "convert.h"

namespace snapbak {

namespace {

struct Request {
  UniqueFd file;
  uint64_t bytes;
  UniqueFd device;
  DeviceBeneath beneath;
  PinnedFile result;
};

Napi::Value ResultObject(Napi::Env env, const PinnedFile& result) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("extents", FlatExtents(env, result.extents));
  if (result.unsuited != nullptr) object.Set("unsuited", result.unsuited);
  return object;
}

}  // namespace

Napi::Value PinFile(const Napi::CallbackInfo& info) {
  const Napi::Object beneath = info[2].As<Napi::Object>();
  auto request = std::make_shared<Request>();
  request->file = DuplicateFd(info[0], "fd");
  request->bytes = ToU64(info[1], "bytes");
  request->device = DuplicateFd(beneath.Get("fd"), "beneath.fd");
  request->beneath = {request->device.get(), ToU32(beneath.Get("sectorSize"), "beneath.sectorSize"),
                      ToU64(beneath.Get("offset"), "beneath.offset"),
                      ToU64(beneath.Get("size"), "beneath.size")};
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([request, settler] {
    request->result = Pin(request->file.get(), request->bytes, request->beneath);
    settler.Settle({request->result.error, request->result.step},
                   [request](Napi::Env env) { return ResultObject(env, request->result); });
  });
  if (!accepted) settler.Settle({-EBADF, "pin"});
  return settler.promise();
}

Napi::Value UnpinFile(const Napi::CallbackInfo& info) {
  const int error = Unpin(static_cast<int>(ToU32(info[0], "fd")));
  if (error != 0) throw MakeError(info.Env(), {error, "unpin"});
  return info.Env().Undefined();
}

Napi::Value RemoveLeftPinnedFile(const Napi::CallbackInfo& info) {
  const int error = RemoveLeftPinned(info[0].As<Napi::String>());
  if (error != 0 && error != -ENOENT) throw MakeError(info.Env(), {error, "remove"});
  return Napi::Boolean::New(info.Env(), error == 0);
}

}  // namespace snapbak
