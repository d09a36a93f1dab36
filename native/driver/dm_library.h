// SPDX-License-Identifier: MIT
// libdevmapper, loaded when it is first needed: the addon must load on machines
// that do not have it. The library keeps state for the whole process (its log
// function, nodes to make, the control descriptor) and knows no threads, so one
// lock of the process is held around every use.
#pragma once

#include <libdevmapper.h>

#include <mutex>

namespace snapbak {

// The functions that are used, under their names without "dm_".
// clang-format off
#define SNAPBAK_DM_FUNCTIONS(F) \
  F(is_dm_major) \
  F(log_is_non_default) \
  F(log_with_errno_init) \
  F(get_next_target) \
  F(task_add_target) \
  F(task_create) \
  F(task_deferred_remove) \
  F(task_destroy) \
  F(task_get_deps) \
  F(task_get_errno) \
  F(task_get_info) \
  F(task_get_name) \
  F(task_get_read_ahead) \
  F(task_get_uuid) \
  F(task_get_versions) \
  F(task_query_inactive_table) \
  F(task_retry_remove) \
  F(task_run) \
  F(task_secure_data) \
  F(task_set_cookie) \
  F(task_set_major_minor) \
  F(task_set_name) \
  F(task_set_read_ahead) \
  F(task_set_ro) \
  F(task_set_uuid) \
  F(udev_set_sync_support) \
  F(udev_wait)
// clang-format on

struct DmLibrary {
#define SNAPBAK_DM_MEMBER(name) decltype(&::dm_##name) name;
  SNAPBAK_DM_FUNCTIONS(SNAPBAK_DM_MEMBER)
#undef SNAPBAK_DM_MEMBER

  // The library, or nullptr where it is not installed (or lacks a function).
  static const DmLibrary* Get();

  // Held around everything that uses the library.
  static std::unique_lock<std::mutex> Lock();
};

}  // namespace snapbak
