// SPDX-License-Identifier: MIT
#include "ext2_library.h"

#include <dlfcn.h>
#include <stdlib.h>

namespace snapbak {

namespace {

bool Load(Ext2Library* ext2) {
  void* handle = dlopen("libext2fs.so.2", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return false;
#define SNAPBAK_EXT2_LOAD(name)                                                        \
  ext2->name = reinterpret_cast<decltype(ext2->name)>(dlsym(handle, "ext2fs_" #name)); \
  if (ext2->name == nullptr) return false;
  SNAPBAK_EXT2_FUNCTIONS(SNAPBAK_EXT2_LOAD)
#undef SNAPBAK_EXT2_LOAD
  return true;
}

}  // namespace

// Of the process; never unloaded, for a thread may be in it at exit.
const Ext2Library* Ext2Library::Get() {
  static Ext2Library library;
  static const bool loaded = Load(&library);
  return loaded ? &library : nullptr;
}

}  // namespace snapbak
