// SPDX-License-Identifier: MIT
#include "dm_library.h"

#include <dlfcn.h>

namespace snapbak {

namespace {

// It would write to stderr, which belongs to the application; errno says what is needed.
void Silent(int, const char*, int, int, const char*, ...) {}

bool Load(DmLibrary* dm) {
  void* handle = dlopen("libdevmapper.so.1.02.1", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return false;
#define SNAPBAK_DM_LOAD(name)                                                  \
  dm->name = reinterpret_cast<decltype(dm->name)>(dlsym(handle, "dm_" #name)); \
  if (dm->name == nullptr) return false;
  SNAPBAK_DM_FUNCTIONS(SNAPBAK_DM_LOAD)
#undef SNAPBAK_DM_LOAD
  if (dm->log_is_non_default() == 0) dm->log_with_errno_init(&Silent);
  dm->udev_set_sync_support(1);  // in effect only where udev runs and DM_DISABLE_UDEV is not set
  return true;
}

}  // namespace

// Of the process, like the library's own state; never unloaded, for its threads may be in it at exit.
const DmLibrary* DmLibrary::Get() {
  static DmLibrary library;
  static const bool loaded = Load(&library);
  return loaded ? &library : nullptr;
}

std::unique_lock<std::mutex> DmLibrary::Lock() {
  static std::mutex mutex;
  return std::unique_lock<std::mutex>(mutex);
}

}  // namespace snapbak
