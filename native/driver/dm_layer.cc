// SPDX-License-Identifier: MIT
#include "dm_layer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "block_node.h"

namespace snapbak {

namespace {

DmTable OneLine(uint64_t sectors, const std::string& target, uint32_t major, uint32_t minor,
                uint64_t offset) {
  DmTable table;
  table.emplace_back(0, sectors, target,
                     std::to_string(major) + ":" + std::to_string(minor) + " " + std::to_string(offset));
  return table;
}

// The origin and its live table.
int Look(DeviceMapper* dm, const std::string& name, DmInfo* info, DmTable* table) {
  int error = dm->InfoByName(name, info);
  if (error == 0) error = dm->Table(name, false, table);
  return error == 0 && table->empty() ? -ENODATA : error;
}

bool StandsOn(DeviceMapper* dm, const std::string& name, const DmInfo& lower) {
  std::vector<uint64_t> devices;
  return dm->Deps(name, &devices) == 0 && devices.size() == 1 &&
         devices[0] == makedev(lower.major, lower.minor);
}

}  // namespace

DmOutcome AttachLayer(DeviceMapper* dm, const DmLayer& layer) {
  DmOutcome outcome;
  DmInfo origin, lower;
  DmTable table;
  const auto failed = [&outcome](const char* step, int error) {
    if (error != 0) outcome.Fail(step, error);
    return error != 0;
  };

  if (failed("origin", Look(dm, layer.origin, &origin, &table))) return outcome;
  if (failed("lower-create", dm->Create(layer.lower_name, layer.lower_uuid, origin.read_only)))
    return outcome;

  if (!failed("lower-load", dm->Load(layer.lower_name, table, origin.read_only)) &&
      !failed("lower-resume", dm->Resume(layer.lower_name, DmVisibility::kHidden)) &&
      !failed("lower-resume", dm->InfoByName(layer.lower_name, &lower))) {
    const DmTable above = OneLine(DmSectors(table), layer.target, lower.major, lower.minor, layer.offset);
    SwapTable(dm, origin, above, table, layer.visibility, &outcome);
    // Somebody emptied the slot in between: the resume found nothing to swap in, and said so to nobody.
    if (outcome.ok() && !StandsOn(dm, layer.origin, lower)) outcome.Fail("swap", -EAGAIN);
  }
  // What the origin still stands on cannot be removed; the kernel would refuse.
  if (!outcome.ok()) outcome.FailUndo("lower-remove", dm->Remove(layer.lower_name, false));
  return outcome;
}

DmOutcome DetachLayer(DeviceMapper* dm, const DmLayer& layer) {
  DmOutcome outcome;
  DmInfo origin, lower;
  DmTable above, table;
  int error = Look(dm, layer.origin, &origin, &above);
  if (error != 0) {
    outcome.Fail("origin", error);
    return outcome;
  }
  error = Look(dm, layer.lower_name, &lower, &table);
  if (error != 0) {
    outcome.Fail("lower", error);
    return outcome;
  }
  SwapTable(dm, origin, table, above, layer.visibility, &outcome);
  if (!outcome.ok()) return outcome;
  error = dm->Remove(layer.lower_name, false);
  if (error == -EBUSY) {
    error = dm->Remove(layer.lower_name, true);
    outcome.lower_left = error == 0;
  }
  if (error != 0) outcome.Fail("lower-remove", error);
  return outcome;
}

DmOutcome CreateOver(DeviceMapper* dm, const DmCreation& creation) {
  DmOutcome outcome;
  const auto failed = [&outcome](const char* step, int error) {
    if (error != 0) outcome.Fail(step, error);
    return error != 0;
  };
  uint64_t bytes = 0;
  {
    // Closed again before the kernel claims the device for the table.
    UniqueFd fd;
    if (failed("open", OpenBlockNode(creation.device, O_RDWR | O_EXCL, &fd))) return outcome;
    if (failed("open", ioctl(fd.get(), BLKGETSIZE64, &bytes) == 0 ? 0 : -errno)) return outcome;
  }
  const DmTable table =
      OneLine(bytes / 512, creation.target, major(creation.device), minor(creation.device), 0);
  if (failed("create", dm->Create(creation.name, creation.uuid, false))) return outcome;
  if (failed("load", dm->Load(creation.name, table, false)) ||
      failed("resume", dm->Resume(creation.name, DmVisibility::kVisible))) {
    outcome.FailUndo("remove", dm->Remove(creation.name, false));
  }
  return outcome;
}

DmOutcome MakeLinear(DeviceMapper* dm, const std::string& name, DmVisibility visibility) {
  DmOutcome outcome;
  DmInfo info;
  DmTable table;
  const int error = Look(dm, name, &info, &table);
  if (error != 0) {
    outcome.Fail("origin", error);
    return outcome;
  }
  DmTable linear;
  // "DEVICE OFFSET" means the same to both.
  for (const DmLine& line : table) linear.emplace_back(line.start, line.length, "linear", line.params);
  SwapTable(dm, info, linear, table, visibility, &outcome);
  return outcome;
}

}  // namespace snapbak
