// SPDX-License-Identifier: MIT
// The addon's face: what lib/binding.ts names, for one environment.
#include <napi.h>

#include <memory>

#include "../copy/crc32c.h"
#include "addon_data.h"
#include "clone_wrap.h"
#include "convert.h"
#include "device_mapper_wrap.h"
#include "device_util.h"
#include "exportable.h"
#include "kernel_query.h"
#include "lazy_restore_wrap.h"
#include "origin_wrap.h"
#include "pinned_file_wrap.h"
#include "replay_wrap.h"
#include "session_wrap.h"
#include "used_blocks_wrap.h"

namespace snapbak {

namespace {

Napi::Value JsCrc32c(const Napi::CallbackInfo& info) {
  const auto bytes = info[0].As<Napi::Uint8Array>();
  return Napi::Number::New(info.Env(), Crc32c(0, bytes.Data(), bytes.ByteLength()));
}

Napi::Value JsCrc32cImplementation(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), Crc32cImplementation());
}

// Before the environment goes: sessions first, they use the origins.
void StopAll(AddonData* data) {
  while (!data->sessions.empty()) (*data->sessions.begin())->StopNow();
  while (!data->origins.empty()) (*data->origins.begin())->StopNow();
  data->helper->Join();
  data->flush->Join();
  data->queue->Shutdown();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData;
  data->queue = MainQueue::Create(env);
  data->helper = std::make_unique<ThreadPool>("snapbak-helper", 2);
  data->flush = std::make_unique<ThreadPool>("snapbak-flush", 16);
  env.SetInstanceData(data);
  env.AddCleanupHook([](AddonData* gone) { StopAll(gone); }, data);
  data->origin_class = Napi::Persistent(OriginWrap::Define(env));
  data->session_class = Napi::Persistent(SessionWrap::Define(env));
  data->replay_class = Napi::Persistent(ReplayWrap::Define(env));
  data->lazy_restore_class = Napi::Persistent(LazyRestoreWrap::Define(env));
  data->clone_class = Napi::Persistent(CloneWrap::Define(env));
  data->exportable_class = Napi::Persistent(ExportableWrap::Define(env));

  exports.Set("openOrigin", Napi::Function::New(env, &OriginWrap::Open));
  exports.Set("createSession", Napi::Function::New(env, &SessionWrap::Create));
  exports.Set("replay", Napi::Function::New(env, &ReplayWrap::Create));
  exports.Set("openLazyRestore", Napi::Function::New(env, &LazyRestoreWrap::Open));
  exports.Set("openClone", Napi::Function::New(env, &CloneWrap::Open));
  exports.Set("crc32c", Napi::Function::New(env, &JsCrc32c));
  exports.Set("crc32cImplementation", Napi::Function::New(env, &JsCrc32cImplementation));
  exports.Set("deviceSize", Napi::Function::New(env, &DeviceSize));
  exports.Set("probeSignature", Napi::Function::New(env, &ProbeSignature));
  exports.Set("preallocate", Napi::Function::New(env, &Preallocate));
  exports.Set("flushBuffers", Napi::Function::New(env, &FlushBuffers));
  exports.Set("lockFile", Napi::Function::New(env, &LockFile));
  exports.Set("pinFile", Napi::Function::New(env, &PinFile));
  exports.Set("unpinFile", Napi::Function::New(env, &UnpinFile));
  exports.Set("removeLeftPinned", Napi::Function::New(env, &RemoveLeftPinnedFile));
  exports.Set("syncFileSystem", Napi::Function::New(env, &SyncFileSystem));
  exports.Set("probeRange", Napi::Function::New(env, &ProbeRange));
  exports.Set("extBlocks", Napi::Function::New(env, &JsExtBlocks));
  exports.Set("deviceMapper", DefineDeviceMapper(env));
  exports.Set("queryKernelDriver", Napi::Function::New(env, &QueryKernelDriver));
  exports.Set("abiVersion", Napi::Number::New(env, SNAPBAK_ABI_VERSION));
  return exports;
}

}  // namespace

NODE_API_MODULE(snapbak, Init)

}  // namespace snapbak
