// SPDX-License-Identifier: MIT
// The library's view of the kernel driver: each request is an ioctl on
// /dev/snapbak/control. The origin is named by its device number, its lower
// device is opened here, and the shared memory is mapped from the control
// descriptor itself.
#pragma once

#include <sys/ioctl.h>

#include <functional>
#include <memory>
#include <string>

#include "block_node.h"
#include "driver.h"

namespace snapbak {

struct KernelDriverOptions {
  std::string control = "/dev/snapbak/control";
  NodePlaces nodes;
  // ioctl(), in its convention of errno; tests play the module.
  std::function<int(int fd, unsigned long request, void* argument)> ioctl =
      [](int fd, unsigned long request, void* argument) { return ::ioctl(fd, request, argument); };
};

// Errors besides the module's own:
//   -EPROTONOSUPPORT  the module speaks another version of the contract, or
//                     what was opened is not its control device
//   -EPROTO           it answered what the contract does not allow
//   -ENXIO            the lower device has no node
class KernelDriver final : public Driver {
 public:
  // `device`: number of the origin, as in st_rdev. -ENOENT, -ENXIO, -ENODEV:
  // the module is not loaded; -EACCES, -EPERM: not for this user.
  static int Connect(uint64_t device, std::unique_ptr<Driver>* out, const KernelDriverOptions& options = {});
  // Aborts a session that is not over. The mapping refers to the control
  // descriptor, too: the driver lets go when both are gone.
  ~KernelDriver() override;

  int Query(snapbak_query* query) override;
  int Open(snapbak_open* open, UniqueFd* lower) override;
  int Setup(snapbak_setup* setup, SharedMemory* memory) override;
  int Start(snapbak_start* start) override;
  int StopWrites(snapbak_stop_writes* stop) override;
  int StartDescriptor() const override { return control_.get(); }
  int Finish(snapbak_finish* finish) override;
  int Abort(snapbak_abort* abort) override;
  int Status(snapbak_status* status) override;
  int Hint(snapbak_hint* hint) override;
  void Kick() override;
  int WaitEvent(int cancel_fd, int timeout_ms) override;

 private:
  KernelDriver(uint64_t device, UniqueFd control, const KernelDriverOptions& options);
  // Once / again and again while signals interrupt it. 0 or -errno.
  int Try(unsigned long request, void* argument);
  int Request(unsigned long request, void* argument);

  const uint64_t device_;
  const UniqueFd control_;
  const KernelDriverOptions options_;
  uint64_t origin_size_ = 0;
  bool session_open_ = false;  // neither finished nor aborted
};

}  // namespace snapbak
