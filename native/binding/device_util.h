// SPDX-License-Identifier: MIT
// Small questions about files and devices that Node.js cannot answer.
#pragma once

#include <napi.h>

namespace snapbak {

// deviceSize(fd): bytes of a file or a block device.
Napi::Value DeviceSize(const Napi::CallbackInfo& info);
// probeSignature(path): { type, usage } as libblkid finds it, or null.
Napi::Value ProbeSignature(const Napi::CallbackInfo& info);
// preallocate(fd, bytes): promise; every page allocated and written.
Napi::Value Preallocate(const Napi::CallbackInfo& info);
// flushBuffers(fd): promise; what is dirty in the page cache of a block device is written, and the cache
// empty.
Napi::Value FlushBuffers(const Napi::CallbackInfo& info);
// lockFile(fd): the lock of LowerDevice::Adopt, which whoever has the same open file description keeps.
// EBUSY: another has it.
void LockFile(const Napi::CallbackInfo& info);
// syncFileSystem(path): promise; what is dirty in the file system that holds
// the path is written.
Napi::Value SyncFileSystem(const Napi::CallbackInfo& info);

}  // namespace snapbak
