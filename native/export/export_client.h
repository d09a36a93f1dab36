// SPDX-License-Identifier: MIT
// nbdkit's half of an export: sends a client's request on a connection that is
// free, and waits for the answer. As many requests are under way as there are
// connections; the rest wait their turn.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "../driver/unique_fd.h"
#include "export_wire.h"

namespace snapbak {

class ExportClient {
 public:
  explicit ExportClient(std::vector<UniqueFd> sockets);

  // Any thread. 0, the device's error, -ESHUTDOWN when the other half has gone,
  // or -EPROTO if it talks rubbish. Longer reads and writes than one request
  // takes become several.
  int Read(uint64_t offset, void* data, uint64_t length);
  int Write(uint64_t offset, const void* data, uint64_t length, bool fua);
  int WriteZeroes(uint64_t offset, uint64_t length, bool fua);
  int Discard(uint64_t offset, uint64_t length, bool fua);
  int Flush();

  // Waits until the other half has gone, or `cancel` is readable: then false.
  bool WaitForEnd(int cancel) const;
  // Waits until `cancel` is readable, for so long at most: then false. No signal ends it before.
  static bool WaitForCancel(int cancel, std::chrono::milliseconds most);

 private:
  int Call(ExportOp op, bool fua, uint64_t offset, uint64_t length, const void* out, void* in);
  // -1: none is left.
  int Take();
  void Give(int socket, bool usable);

  const std::vector<UniqueFd> sockets_;
  std::mutex mutex_;  // guards the two below
  std::condition_variable freed_;
  std::vector<int> free_;
  size_t usable_;
};

}  // namespace snapbak
