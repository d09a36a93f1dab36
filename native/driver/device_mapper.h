// SPDX-License-Identifier: MIT
// Device-mapper control: one method a request, through libdevmapper. Knows no
// policy and nothing of Snapbak; dm_layer.h puts the requests together.
//
// Every method returns 0 or a negative errno.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dm_library.h"

namespace snapbak {

struct DmInfo {
  std::string name;
  std::string uuid;
  uint32_t major = 0;
  uint32_t minor = 0;
  int32_t open_count = 0;
  uint32_t read_ahead = 0;  // sectors
  bool suspended = false;
  bool live_table = false;
  bool inactive_table = false;
  bool read_only = false;
};

// One line of a table. Parameters may hold keys: wiped when the line goes.
struct DmLine {
  uint64_t start = 0;  // sectors
  uint64_t length = 0;
  std::string type;
  std::string params;

  DmLine() = default;
  DmLine(uint64_t first, uint64_t count, std::string target, std::string parameters)
      : start(first), length(count), type(std::move(target)), params(std::move(parameters)) {}
  DmLine(DmLine&&) = default;
  DmLine& operator=(DmLine&&) = delete;
  ~DmLine();
};
using DmTable = std::vector<DmLine>;

// Sectors that a table covers.
uint64_t DmSectors(const DmTable& table);

// One request; its answer lives as long as it does, and is wiped then.
class DmTask {
 public:
  DmTask() = default;
  DmTask(const DmLibrary* dm, int type);

  // False: not enough memory.
  bool valid() const { return task_ != nullptr; }
  dm_task* get() const { return task_.get(); }
  bool SetName(const std::string& name) { return valid() && dm_->task_set_name(get(), name.c_str()) != 0; }
  bool AddTable(const DmTable& table);
  // Allocates nothing but in libdevmapper.
  int Run();

 private:
  struct Destroyer {
    const DmLibrary* dm;
    void operator()(dm_task* task) const { dm->task_destroy(task); }
  };
  const DmLibrary* dm_ = nullptr;
  std::unique_ptr<dm_task, Destroyer> task_{nullptr, {nullptr}};
};

// Udev leaves a hidden device alone: nobody is to find what is on it.
enum class DmVisibility { kVisible, kHidden };

class DeviceMapper {
 public:
  // Takes the process's lock of libdevmapper until this object goes.
  DeviceMapper() : lock_(DmLibrary::Lock()), dm_(DmLibrary::Get()) {}

  // Before anything else. -ELIBACC: libdevmapper is not installed; -EACCES: not
  // for this user; -ENODEV: the kernel has no device-mapper.
  int Ready() const;
  const DmLibrary* library() const { return dm_; }

  // -ENXIO: there is no such device. -ENOTBLK: not a number of device-mapper.
  int InfoByName(const std::string& name, DmInfo* info);
  int InfoByUuid(const std::string& uuid, DmInfo* info);
  int InfoByNumber(uint64_t device, DmInfo* info);

  int Table(const std::string& name, bool inactive, DmTable* table);
  // Numbers, as in st_rdev, of the devices that the live table stands on.
  int Deps(const std::string& name, std::vector<uint64_t>* devices);
  // Loads the target's module where it can. -EINVAL: there is no such target.
  int TargetVersion(const std::string& type, uint32_t version[3]);

  // A device without a table.
  int Create(const std::string& name, const std::string& uuid, bool read_only);
  // Into the inactive slot.
  int Load(const std::string& name, const DmTable& table, bool read_only);
  // Swaps the inactive table in, if there is one, and lets I/O go on.
  int Resume(const std::string& name, DmVisibility visibility);
  // Empties the inactive slot.
  int Clear(const std::string& name);
  // Waits a little for those who look at it in passing (udev). -EBUSY: it is
  // open. `later`: if so, the kernel removes it when it is closed.
  int Remove(const std::string& name, bool later);

  // Gives the request a cookie; WaitUdev() after it ran. Only for those that make a uevent.
  bool SetCookie(DmTask* task, DmVisibility visibility);
  // Nodes and links are as they should be afterwards.
  void WaitUdev();

 private:
  int Info(DmTask* task, DmInfo* info);

  const std::unique_lock<std::mutex> lock_;
  const DmLibrary* const dm_;
  uint32_t cookie_ = 0;
};

}  // namespace snapbak
