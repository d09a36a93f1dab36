// SPDX-License-Identifier: MIT
// What every wrap of an ExportedDevice has in common, the methods of
// NativeExportable of lib/binding.ts: reads, serving it to a child, the end.
// A wrap has one of these and forwards to it.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <vector>

#include "../export/export_server.h"
#include "../export/exported_device.h"
#include "addon_data.h"
#include "main_queue.h"
#include "thread_pool.h"

namespace snapbak {

class Exportable {
 public:
  // `at_close` is called once, on a thread that may block, when nobody uses the
  // device any more; what it gives is how close() ends.
  Exportable(std::shared_ptr<ExportedDevice> device, std::function<Outcome()> at_close);
  ~Exportable() { StopNow(); }

  // read(offset, length): promise of a Buffer.
  Napi::Value Read(const Napi::CallbackInfo& info);
  // serve(connections): descriptors of the other ends, now the caller's.
  Napi::Value Serve(const Napi::CallbackInfo& info);
  // close(): promise; idempotent. `info.This()` is kept alive until it is done.
  Napi::Value Close(const Napi::CallbackInfo& info);

  // JavaScript thread; blocks until no thread uses the device.
  void StopNow();

  // For other threads of the addon, which may have it longer: it fails then. Null once it is closed.
  std::shared_ptr<ExportedDevice> device() const { return closing_ ? nullptr : state_->device; }

 private:
  // Shared with the threads.
  struct State {
    std::shared_ptr<ExportedDevice> device;
    std::function<Outcome()> at_close;
    std::vector<std::unique_ptr<ExportServer>> servers;  // JavaScript thread, then the closer
    ThreadPool readers{"snapbak-read", 4};
    bool done = false;  // End() ran; on the closer, then after it was joined
    Outcome End();
  };

  std::shared_ptr<State> state_;
  ThreadPool closer_{"snapbak-close", 1};
  bool closing_ = false;
  Napi::Reference<Napi::Promise> closed_;
};

// NativeExportable and nothing more.
class ExportableWrap : public Napi::ObjectWrap<ExportableWrap>, public Stoppable {
 public:
  static Napi::Function Define(Napi::Env env);
  // JavaScript thread: the object for a device.
  static Napi::Object Wrap(Napi::Env env, std::shared_ptr<ExportedDevice> device,
                           std::function<Outcome()> at_close = nullptr);

  // Throws for what is none, or was closed.
  static std::shared_ptr<ExportedDevice> DeviceOf(const Napi::Value& value);

  explicit ExportableWrap(const Napi::CallbackInfo& info);
  ~ExportableWrap() override { StopNow(); }
  void StopNow() override;

 private:
  Napi::Value Read(const Napi::CallbackInfo& info) { return parts_->Read(info); }
  Napi::Value Serve(const Napi::CallbackInfo& info) { return parts_->Serve(info); }
  Napi::Value Close(const Napi::CallbackInfo& info) { return parts_->Close(info); }

  AddonData* data_;
  std::unique_ptr<Exportable> parts_;
};

}  // namespace snapbak
