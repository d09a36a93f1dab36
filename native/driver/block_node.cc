// SPDX-License-Identifier: MIT
#include "block_node.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>

namespace snapbak {

namespace {

// The node's name below /dev as the kernel gives it, e.g. dm-3; empty if there is no such device.
std::string NodeName(uint64_t device, const std::string& sys_dev_block) {
  const std::string number = std::to_string(major(device)) + ":" + std::to_string(minor(device));
  std::ifstream uevent(sys_dev_block + "/" + number + "/uevent");
  const std::string key = "DEVNAME=";
  for (std::string line; std::getline(uevent, line);) {
    if (line.compare(0, key.size(), key) == 0) return line.substr(key.size());
  }
  return "";
}

}  // namespace

int OpenBlockNode(uint64_t device, int flags, UniqueFd* out, const NodePlaces& places) {
  const std::string name = NodeName(device, places.sys_dev_block);
  if (name.empty()) return -ENXIO;
  UniqueFd fd(open((places.dev + "/" + name).c_str(), flags | O_CLOEXEC));
  if (!fd.valid()) return errno == ENOENT ? -ENXIO : -errno;
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return -errno;
  if (!S_ISBLK(st.st_mode) || st.st_rdev != device) return -ENXIO;
  *out = std::move(fd);
  return 0;
}

}  // namespace snapbak
