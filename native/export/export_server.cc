// SPDX-License-Identifier: MIT
#include "export_server.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <system_error>

#include "export_wire.h"
#include "socket_io.h"

namespace snapbak {

namespace {

// What a connection keeps of its buffer from request to request.
constexpr size_t kKeptBytes = 1 << 20;

// Room for the longest request. Only what was touched costs memory, and that of
// a long request is given back.
class DataBuffer {
 public:
  ~DataBuffer() {
    if (data_ != MAP_FAILED) munmap(data_, kExportMaxData);
  }
  int Map() {
    data_ = mmap(nullptr, kExportMaxData, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    return data_ == MAP_FAILED ? -ENOMEM : 0;
  }
  uint8_t* data() const { return static_cast<uint8_t*>(data_); }
  void Shrink(uint64_t used) const {
    if (used > kKeptBytes) madvise(data() + kKeptBytes, kExportMaxData - kKeptBytes, MADV_DONTNEED);
  }

 private:
  void* data_ = MAP_FAILED;
};

}  // namespace

class ExportServer::Connection {
 public:
  // `running` counts it while its thread runs.
  Connection(std::shared_ptr<ExportedDevice> device, UniqueFd socket, std::atomic<unsigned>* running)
      : device_(std::move(device)), socket_(std::move(socket)), running_(running) {}

  ~Connection() {
    HangUp();
    if (thread_.joinable()) thread_.join();
  }

  int Start() {
    const int ret = buffer_.Map();
    if (ret != 0) return ret;
    ++*running_;
    try {
      thread_ = std::thread([this] { Run(); });
    } catch (const std::system_error&) {
      --*running_;
      return -EAGAIN;
    }
    return 0;
  }

  // The thread comes back from the socket, and the peer sees the end.
  void HangUp() { shutdown(socket_.get(), SHUT_RDWR); }

 private:
  void Run() {
    pthread_setname_np(pthread_self(), "snapbak-export");
    while (ServeOne()) {
    }
    HangUp();  // what is not this protocol has no second chance
    --*running_;
  }

  bool ServeOne() {
    ExportRequest request;
    if (ReceiveAll(socket_.get(), &request, sizeof request) != 0) return false;
    if (!CheckRequest(request, device_->size())) return false;
    if (request.op == kExportWrite && ReceiveAll(socket_.get(), buffer_.data(), request.length) != 0) {
      return false;
    }
    const int error = Do(request);
    const ExportReply reply{kExportMagic, error};
    const size_t length = request.op == kExportRead && error == 0 ? request.length : 0;
    if (SendAll(socket_.get(), &reply, sizeof reply, buffer_.data(), length) != 0) return false;
    if (request.op == kExportRead || request.op == kExportWrite) buffer_.Shrink(request.length);
    return true;
  }

  int Do(const ExportRequest& request) {
    const bool fua = (request.flags & kExportFua) != 0;
    int ret;
    switch (request.op) {
      case kExportRead:
        return device_->Read(request.offset, buffer_.data(), request.length);
      case kExportWrite:
        return device_->Write(request.offset, buffer_.data(), request.length, fua);
      case kExportZero:
        return device_->WriteZeroes(request.offset, request.length, fua);
      case kExportTrim:
        ret = device_->Discard(request.offset, request.length);
        return ret == 0 && fua ? device_->Flush() : ret;
      default:
        return device_->Flush();
    }
  }

  const std::shared_ptr<ExportedDevice> device_;
  const UniqueFd socket_;
  std::atomic<unsigned>* const running_;
  DataBuffer buffer_;
  std::thread thread_;
};

ExportServer::ExportServer() = default;

ExportServer::~ExportServer() { Stop(); }

int ExportServer::Start(std::shared_ptr<ExportedDevice> device, unsigned connections,
                        std::vector<UniqueFd>* peers, std::unique_ptr<ExportServer>* out) {
  if (connections == 0 || connections > kExportMaxConnections) return -EINVAL;
  std::unique_ptr<ExportServer> server(new ExportServer);
  std::vector<UniqueFd> others;
  for (unsigned i = 0; i < connections; ++i) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return -errno;
    others.emplace_back(fds[1]);
    server->connections_.push_back(std::make_unique<Connection>(device, UniqueFd(fds[0]), &server->running_));
    const int ret = server->connections_.back()->Start();
    if (ret != 0) return ret;
  }
  *peers = std::move(others);
  *out = std::move(server);
  return 0;
}

void ExportServer::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& connection : connections_) connection->HangUp();
  connections_.clear();
}

}  // namespace snapbak
