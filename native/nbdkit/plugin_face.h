// SPDX-License-Identifier: MIT
// What the nbdkit plugins have in common: how an error of ours becomes
// nbdkit's, and the callbacks that say the same of each device.
#pragma once

#include <errno.h>
#include <string.h>

#include <cinttypes>
#include <cstdint>
#include <new>
#include <system_error>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace snapbak {

// Calls `io`, which returns 0 or a negative errno. No exception may reach nbdkit's C.
template <typename Io>
int Run(const char* what, uint64_t offset, uint64_t count, Io io) {
  int ret;
  try {
    ret = io();
  } catch (const std::bad_alloc&) {
    ret = -ENOMEM;
  } catch (const std::system_error&) {
    ret = -EIO;
  }
  if (ret == 0) return 0;
  // Not worth a line in the log: the rule of fast zeroes is to fail when slow.
  if (ret != -EOPNOTSUPP) {
    nbdkit_error("%s at %" PRIu64 ", %" PRIu64 " bytes: %s", what, offset, count, strerror(-ret));
  }
  nbdkit_set_error(-ret);
  return -1;
}

inline bool IsDurable(uint32_t flags) { return (flags & NBDKIT_FLAG_FUA) != 0; }

inline int ParseBool(const char* value, bool* out) {
  const int on = nbdkit_parse_bool(value);
  if (on < 0) return -1;
  *out = on != 0;
  return 0;
}

inline int Yes(void*) { return 1; }
inline int No(void*) { return 0; }

// A plugin with what holds for both: bytes at any alignment, up to `max_request`
// at once; writes, trims and zeroes; FUA as its own flag. `can_write` and the
// I/O are the caller's.
template <uint32_t max_request>
nbdkit_plugin PluginFace() {
  nbdkit_plugin plugin = {};
  plugin.version = "0.1.0";
  plugin.open = [](int) -> void* { return NBDKIT_HANDLE_NOT_NEEDED; };
  plugin.block_size = [](void*, uint32_t* minimum, uint32_t* preferred, uint32_t* maximum) {
    *minimum = 1;
    *preferred = 4096;
    *maximum = max_request;
    return 0;
  };
  plugin.can_flush = Yes;
  plugin.can_trim = Yes;
  plugin.can_zero = Yes;
  plugin.can_fua = [](void*) { return NBDKIT_FUA_NATIVE; };
  plugin.can_multi_conn = Yes;  // one device, one page cache: a flush covers every connection
  plugin.can_cache = [](void*) { return NBDKIT_CACHE_EMULATE; };
  return plugin;
}

}  // namespace snapbak
