// SPDX-License-Identifier: MIT
#include "export_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "socket_io.h"

namespace snapbak {

ExportClient::ExportClient(std::vector<UniqueFd> sockets)
    : sockets_(std::move(sockets)), usable_(sockets_.size()) {
  for (const UniqueFd& socket : sockets_) free_.push_back(socket.get());
}

int ExportClient::Read(uint64_t offset, void* data, uint64_t length) {
  auto* at = static_cast<uint8_t*>(data);
  while (length > 0) {
    const uint64_t n = std::min(length, kExportMaxData);
    const int ret = Call(kExportRead, false, offset, n, nullptr, at);
    if (ret != 0) return ret;
    offset += n, at += n, length -= n;
  }
  return 0;
}

int ExportClient::Write(uint64_t offset, const void* data, uint64_t length, bool fua) {
  auto* at = static_cast<const uint8_t*>(data);
  while (length > 0) {
    const uint64_t n = std::min(length, kExportMaxData);
    const int ret = Call(kExportWrite, fua, offset, n, at, nullptr);
    if (ret != 0) return ret;
    offset += n, at += n, length -= n;
  }
  return 0;
}

int ExportClient::WriteZeroes(uint64_t offset, uint64_t length, bool fua) {
  return length == 0 ? 0 : Call(kExportZero, fua, offset, length, nullptr, nullptr);
}

int ExportClient::Discard(uint64_t offset, uint64_t length, bool fua) {
  return length == 0 ? 0 : Call(kExportTrim, fua, offset, length, nullptr, nullptr);
}

int ExportClient::Flush() { return Call(kExportFlush, false, 0, 0, nullptr, nullptr); }

bool ExportClient::WaitForEnd(int cancel) const {
  std::vector<pollfd> watched{{cancel, POLLIN, 0}};
  for (const UniqueFd& socket : sockets_) watched.push_back({socket.get(), 0, 0});  // POLLHUP is always told
  while (watched.size() > 1) {
    if (poll(watched.data(), watched.size(), -1) < 0 && errno != EINTR) return true;
    if (watched[0].revents != 0) return false;
    watched.erase(std::remove_if(watched.begin() + 1, watched.end(),
                                 [](const pollfd& one) { return (one.revents & (POLLHUP | POLLERR)) != 0; }),
                  watched.end());
  }
  return true;
}

bool ExportClient::WaitForCancel(int cancel, std::chrono::milliseconds most) {
  const auto until = std::chrono::steady_clock::now() + most;
  pollfd watched{cancel, POLLIN, 0};
  int ready;
  do {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    ready = poll(&watched, 1, static_cast<int>(std::max<int64_t>(left, 0)));
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

int ExportClient::Call(ExportOp op, bool fua, uint64_t offset, uint64_t length, const void* out, void* in) {
  const int socket = Take();
  if (socket < 0) return -ESHUTDOWN;
  const ExportRequest request{kExportMagic, op, static_cast<uint16_t>(fua ? kExportFua : 0), offset, length};
  ExportReply reply{};
  int ret = SendAll(socket, &request, sizeof request, out, out == nullptr ? 0 : length);
  if (ret == 0) ret = ReceiveAll(socket, &reply, sizeof reply);
  if (ret == 0 && !CheckReply(reply)) ret = -EPROTO;
  if (ret == 0 && reply.error == 0 && in != nullptr) ret = ReceiveAll(socket, in, length);
  Give(socket, ret == 0);
  if (ret == -EPIPE || ret == -ECONNRESET) ret = -ESHUTDOWN;
  return ret != 0 ? ret : reply.error;
}

int ExportClient::Take() {
  std::unique_lock<std::mutex> lock(mutex_);
  freed_.wait(lock, [this] { return !free_.empty() || usable_ == 0; });
  if (free_.empty()) return -1;
  const int socket = free_.back();
  free_.pop_back();
  return socket;
}

void ExportClient::Give(int socket, bool usable) {
  // half a message may be on it: the other half must see the end, and nobody may take it again
  if (!usable) shutdown(socket, SHUT_RDWR);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (usable) {
      free_.push_back(socket);
    } else {
      --usable_;
    }
  }
  if (usable) {
    freed_.notify_one();
  } else {
    freed_.notify_all();
  }
}

}  // namespace snapbak
