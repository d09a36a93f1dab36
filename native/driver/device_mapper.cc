// SPDX-License-Identifier: MIT
#include "device_mapper.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "unique_fd.h"

namespace snapbak {

DmLine::~DmLine() { explicit_bzero(params.data(), params.size()); }

uint64_t DmSectors(const DmTable& table) {
  return table.empty() ? 0 : table.back().start + table.back().length;
}

// Every request is made with the secure flag: the kernel and libdevmapper wipe
// their copies. (The tables of dm-crypt hold keys.)
DmTask::DmTask(const DmLibrary* dm, int type) : dm_(dm), task_(dm->task_create(type), Destroyer{dm}) {
  if (valid()) dm_->task_secure_data(get());
}

bool DmTask::AddTable(const DmTable& table) {
  for (const DmLine& line : table) {
    if (!dm_->task_add_target(get(), line.start, line.length, line.type.c_str(), line.params.c_str())) {
      return false;
    }
  }
  return true;
}

int DmTask::Run() {
  errno = 0;
  if (dm_->task_run(get())) return 0;
  // Before it comes to the request: /dev/mapper/control cannot be opened, memory.
  const int before = errno;
  const int error = dm_->task_get_errno(get());
  if (error != 0) return -error;
  return before != 0 ? -before : -EIO;
}

int DeviceMapper::Ready() const {
  if (dm_ == nullptr) return -ELIBACC;
  // libdevmapper makes no request where it could not ask the kernel for its version, and does not say why.
  if (DmTask(dm_, DM_DEVICE_VERSION).valid()) return 0;
  const UniqueFd control(open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
  return !control.valid() && (errno == EACCES || errno == EPERM) ? -EACCES : -ENODEV;
}

int DeviceMapper::Info(DmTask* task, DmInfo* info) {
  int error = task->Run();
  if (error != 0) return error;
  dm_info raw{};
  if (!dm_->task_get_info(task->get(), &raw)) return -EIO;
  if (raw.exists == 0) return -ENXIO;
  info->name = dm_->task_get_name(task->get());
  info->uuid = dm_->task_get_uuid(task->get());
  info->major = raw.major;
  info->minor = raw.minor;
  info->open_count = raw.open_count;
  info->suspended = raw.suspended != 0;
  info->live_table = raw.live_table != 0;
  info->inactive_table = raw.inactive_table != 0;
  info->read_only = raw.read_only != 0;
  if (!dm_->task_get_read_ahead(task->get(), &info->read_ahead)) info->read_ahead = DM_READ_AHEAD_AUTO;
  return 0;
}

int DeviceMapper::InfoByName(const std::string& name, DmInfo* info) {
  DmTask task(dm_, DM_DEVICE_INFO);
  return task.SetName(name) ? Info(&task, info) : -ENOMEM;
}

int DeviceMapper::InfoByUuid(const std::string& uuid, DmInfo* info) {
  DmTask task(dm_, DM_DEVICE_INFO);
  if (!task.valid() || !dm_->task_set_uuid(task.get(), uuid.c_str())) return -ENOMEM;
  return Info(&task, info);
}

int DeviceMapper::InfoByNumber(uint64_t device, DmInfo* info) {
  const int major = static_cast<int>(major(device));
  const int minor = static_cast<int>(minor(device));
  if (!dm_->is_dm_major(static_cast<uint32_t>(major))) return -ENOTBLK;
  DmTask task(dm_, DM_DEVICE_INFO);
  if (!task.valid() || !dm_->task_set_major_minor(task.get(), major, minor, 0)) return -ENOMEM;
  return Info(&task, info);
}

int DeviceMapper::Table(const std::string& name, bool inactive, DmTable* table) {
  DmTask task(dm_, DM_DEVICE_TABLE);
  if (!task.SetName(name)) return -ENOMEM;
  if (inactive && !dm_->task_query_inactive_table(task.get())) return -ENOMEM;
  const int error = task.Run();
  if (error != 0) return error;
  table->clear();
  void* next = nullptr;
  do {
    uint64_t start = 0;
    uint64_t length = 0;
    char* type = nullptr;
    char* params = nullptr;
    next = dm_->get_next_target(task.get(), next, &start, &length, &type, &params);
    if (type != nullptr) table->emplace_back(start, length, type, params != nullptr ? params : "");
  } while (next != nullptr);
  return 0;
}

int DeviceMapper::Deps(const std::string& name, std::vector<uint64_t>* devices) {
  DmTask task(dm_, DM_DEVICE_DEPS);
  if (!task.SetName(name)) return -ENOMEM;
  const int error = task.Run();
  if (error != 0) return error;
  const dm_deps* deps = dm_->task_get_deps(task.get());
  if (deps == nullptr) return -EIO;
  devices->assign(deps->device, deps->device + deps->count);
  return 0;
}

int DeviceMapper::TargetVersion(const std::string& type, uint32_t version[3]) {
  DmTask task(dm_, DM_DEVICE_GET_TARGET_VERSION);
  if (!task.SetName(type)) return -ENOMEM;
  const int error = task.Run();
  if (error != 0) return error;
  const dm_versions* found = dm_->task_get_versions(task.get());
  if (found == nullptr || type != found->name) return -EINVAL;
  for (int i = 0; i < 3; ++i) version[i] = found->version[i];
  return 0;
}

int DeviceMapper::Create(const std::string& name, const std::string& uuid, bool read_only) {
  DmTask task(dm_, DM_DEVICE_CREATE);
  if (!task.SetName(name) || !dm_->task_set_uuid(task.get(), uuid.c_str())) return -ENOMEM;
  if (read_only && !dm_->task_set_ro(task.get())) return -ENOMEM;
  return task.Run();
}

int DeviceMapper::Load(const std::string& name, const DmTable& table, bool read_only) {
  DmTask task(dm_, DM_DEVICE_RELOAD);
  if (!task.SetName(name) || !task.AddTable(table)) return -ENOMEM;
  if (read_only && !dm_->task_set_ro(task.get())) return -ENOMEM;
  return task.Run();
}

int DeviceMapper::Resume(const std::string& name, DmVisibility visibility) {
  DmTask task(dm_, DM_DEVICE_RESUME);
  if (!task.SetName(name) || !SetCookie(&task, visibility)) return -ENOMEM;
  const int error = task.Run();
  WaitUdev();
  return error;
}

int DeviceMapper::Clear(const std::string& name) {
  DmTask task(dm_, DM_DEVICE_CLEAR);
  return task.SetName(name) ? task.Run() : -ENOMEM;
}

int DeviceMapper::Remove(const std::string& name, bool later) {
  DmTask task(dm_, DM_DEVICE_REMOVE);
  if (!task.SetName(name)) return -ENOMEM;
  if (!dm_->task_retry_remove(task.get())) return -ENOMEM;
  if (later && !dm_->task_deferred_remove(task.get())) return -ENOMEM;
  if (!SetCookie(&task, DmVisibility::kVisible)) return -ENOMEM;
  const int error = task.Run();
  WaitUdev();
  return error;
}

bool DeviceMapper::SetCookie(DmTask* task, DmVisibility visibility) {
  uint16_t flags = 0;
  if (visibility == DmVisibility::kHidden) {
    flags = DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG | DM_UDEV_DISABLE_DISK_RULES_FLAG |
            DM_UDEV_DISABLE_OTHER_RULES_FLAG;
  }
  return dm_->task_set_cookie(task->get(), &cookie_, flags) != 0;
}

void DeviceMapper::WaitUdev() {
  dm_->udev_wait(cookie_);
  cookie_ = 0;
}

}  // namespace snapbak
