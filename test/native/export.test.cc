// SPDX-License-Identifier: MIT
// Both halves of an export over their sockets: what a client asks is what the
// device does, rubbish ends a connection and nothing else, and no end of either
// half leaves the other waiting.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

#include "native/export/export_client.h"
#include "native/export/export_server.h"
#include "native/export/export_wire.h"
#include "native/export/socket_io.h"

namespace snapbak {
namespace {

constexpr uint64_t kSize = 1 << 20;

// A device in memory, whose reads can be held.
class MemoryDevice : public ExportedDevice {
 public:
  explicit MemoryDevice(uint64_t size = kSize) : bytes_(size), size_(size) {}
  // Says that it is larger than it is.
  void Claim(uint64_t size) { size_ = size; }

  uint64_t size() const override { return size_; }
  bool read_only() const override { return false; }
  int Read(uint64_t offset, void* data, size_t length) override {
    std::unique_lock<std::mutex> lock(mutex_);
    ++inside;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_ || down_; });
    --inside;
    if (down_) return -ESHUTDOWN;
    if (error != 0) return error;
    memcpy(data, bytes_.data() + offset, length);
    return 0;
  }
  int Write(uint64_t offset, const void* data, size_t length, bool fua) override {
    std::lock_guard<std::mutex> lock(mutex_);
    memcpy(bytes_.data() + offset, data, length);
    fuas += fua;
    return error;
  }
  int WriteZeroes(uint64_t offset, uint64_t length, bool fua) override {
    std::lock_guard<std::mutex> lock(mutex_);
    memset(bytes_.data() + offset, 0, length);
    fuas += fua;
    return error;
  }
  int Discard(uint64_t offset, uint64_t length) override {
    std::lock_guard<std::mutex> lock(mutex_);
    memset(bytes_.data() + offset, 0xdd, length);
    return error;
  }
  int Flush() override {
    flushes++;
    return error;
  }
  void Shutdown() override {
    std::lock_guard<std::mutex> lock(mutex_);
    down_ = true;
    changed_.notify_all();
  }

  void Hold(bool on) {
    std::lock_guard<std::mutex> lock(mutex_);
    held_ = on;
    changed_.notify_all();
  }
  void WaitForReaders(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return inside == count; });
  }

  std::atomic<int> error{0}, fuas{0}, flushes{0};
  int inside = 0;  // guarded by mutex_

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint8_t> bytes_;
  std::atomic<uint64_t> size_;
  bool held_ = false, down_ = false;
};

class Export : public testing::Test {
 protected:
  void Start(unsigned connections, uint64_t size = kSize) {
    device_ = std::make_shared<MemoryDevice>(size);
    ASSERT_EQ(ExportServer::Start(device_, connections, &peers_, &server_), 0);
    ASSERT_EQ(peers_.size(), connections);
  }
  void Connect() { client_ = std::make_unique<ExportClient>(std::move(peers_)); }

  std::shared_ptr<MemoryDevice> device_;
  std::vector<UniqueFd> peers_;
  std::unique_ptr<ExportServer> server_;
  std::unique_ptr<ExportClient> client_;
};

TEST_F(Export, KeepsWhatAModelKeeps) {
  Start(3);
  Connect();
  std::vector<uint8_t> model(kSize), data(70'000), seen(kSize);
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t length = 1 + random() % data.size();
    const uint64_t offset = random() % (kSize - length + 1);
    const uint8_t byte = static_cast<uint8_t>(random());
    switch (random() % 4) {
      case 0:
        memset(data.data(), byte, length);
        ASSERT_EQ(client_->Write(offset, data.data(), length, byte < 50), 0);
        memset(model.data() + offset, byte, length);
        break;
      case 1:
        ASSERT_EQ(client_->WriteZeroes(offset, length, false), 0);
        memset(model.data() + offset, 0, length);
        break;
      case 2:
        ASSERT_EQ(client_->Discard(offset, length, false), 0);
        memset(model.data() + offset, 0xdd, length);
        break;
      default:
        ASSERT_EQ(client_->Read(offset, data.data(), length), 0);
        ASSERT_EQ(memcmp(data.data(), model.data() + offset, length), 0);
    }
  }
  ASSERT_EQ(client_->Read(0, seen.data(), kSize), 0);
  EXPECT_EQ(seen, model);
}

TEST_F(Export, PassesFuaFlushAndErrors) {
  Start(1);
  Connect();
  uint8_t byte = 7;
  EXPECT_EQ(client_->Write(kSize - 1, &byte, 1, false), 0);
  EXPECT_EQ(device_->fuas, 0);
  EXPECT_EQ(client_->Write(0, &byte, 1, true), 0);
  EXPECT_EQ(client_->WriteZeroes(5, 10, true), 0);
  EXPECT_EQ(device_->fuas, 2);
  EXPECT_EQ(client_->Flush(), 0);
  EXPECT_EQ(device_->flushes, 1);
  EXPECT_EQ(client_->Discard(0, kSize, true), 0);
  EXPECT_EQ(device_->flushes, 2) << "a durable trim";
  device_->error = -ENOSPC;
  EXPECT_EQ(client_->Write(0, &byte, 1, false), -ENOSPC);
  EXPECT_EQ(client_->Read(0, &byte, 1), -ENOSPC);
  EXPECT_EQ(client_->Flush(), -ENOSPC);
  device_->error = 0;
  EXPECT_EQ(client_->Read(0, &byte, 1), 0) << "an error of the device is no end of the connection";
}

TEST_F(Export, CutsWhatIsLongerThanOneRequest) {
  Start(1, kExportMaxData + 4096);
  Connect();
  std::vector<uint8_t> data(kExportMaxData + 4096, 9), seen(data.size());
  data[kExportMaxData] = 1;
  ASSERT_EQ(client_->Write(0, data.data(), data.size(), false), 0);
  ASSERT_EQ(client_->Read(0, seen.data(), seen.size()), 0);
  EXPECT_EQ(seen, data);
}

TEST_F(Export, RefusesNoConnectionsAndTooMany) {
  EXPECT_EQ(ExportServer::Start(std::make_shared<MemoryDevice>(), 0, &peers_, &server_), -EINVAL);
  EXPECT_EQ(
      ExportServer::Start(std::make_shared<MemoryDevice>(), kExportMaxConnections + 1, &peers_, &server_),
      -EINVAL);
}

TEST_F(Export, StoppingTheServerEndsEveryWait) {
  Start(2);
  Connect();
  device_->Hold(true);
  std::vector<std::thread> readers;
  std::atomic<int> down{0};
  for (int i = 0; i < 6; ++i) {  // two in the device, four waiting for a connection
    readers.emplace_back([&] {
      uint8_t byte;
      down += client_->Read(0, &byte, 1) == -ESHUTDOWN;
    });
  }
  device_->WaitForReaders(2);
  device_->Shutdown();
  server_->Stop();
  server_->Stop();
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(down, 6);
  uint8_t byte;
  EXPECT_EQ(client_->Read(0, &byte, 1), -ESHUTDOWN);
  UniqueFd cancel(eventfd(0, 0));
  EXPECT_TRUE(client_->WaitForEnd(cancel.get()));
}

TEST_F(Export, APeerThatDiesLeavesNobodyWaiting) {
  Start(2);
  device_->Hold(true);
  const ExportRequest read{kExportMagic, kExportRead, 0, 0, 4096};
  ASSERT_EQ(SendAll(peers_[0].get(), &read, sizeof read, nullptr, 0), 0);
  // half a request on the other
  ASSERT_EQ(SendAll(peers_[1].get(), &read, 5, nullptr, 0), 0);
  device_->WaitForReaders(1);
  peers_.clear();
  device_->Hold(false);
  server_->Stop();
}

TEST_F(Export, HasEndedWhenNobodyHasAnyOfTheOtherEnds) {
  Start(3);
  EXPECT_FALSE(server_->ended());
  peers_.erase(peers_.begin(), peers_.begin() + 2);
  Connect();
  uint8_t byte;
  EXPECT_EQ(client_->Read(0, &byte, 1), 0);
  EXPECT_FALSE(server_->ended()) << "one is left";
  client_.reset();
  for (int i = 0; i < 30'000 && !server_->ended(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(server_->ended());
  server_.reset();
}

TEST_F(Export, TheWatchEndsWhenItIsToldToAndNotBefore) {
  Start(2);
  Connect();
  UniqueFd cancel(eventfd(0, 0));
  std::atomic<bool> ended{false};
  std::thread watch([&] {
    EXPECT_FALSE(client_->WaitForEnd(cancel.get()));
    ended = true;
  });
  uint8_t byte;
  EXPECT_EQ(client_->Read(0, &byte, 1), 0);
  EXPECT_FALSE(ended);
  const uint64_t one = 1;
  ASSERT_EQ(write(cancel.get(), &one, sizeof one), 8);
  watch.join();
}

TEST(ExportClient, SignalsDoNotShortenTheGraceOfItsClients) {
  using Clock = std::chrono::steady_clock;
  struct sigaction handled {};
  struct sigaction before {};
  handled.sa_handler = [](int) {};
  ASSERT_EQ(sigaction(SIGUSR1, &handled, &before), 0);
  const UniqueFd cancel(eventfd(0, EFD_CLOEXEC));
  std::atomic<bool> ended{false};
  std::thread watch([&] {
    const auto begin = Clock::now();
    EXPECT_FALSE(ExportClient::WaitForCancel(cancel.get(), std::chrono::milliseconds(100)));
    EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(100));
    ended = true;
    EXPECT_TRUE(ExportClient::WaitForCancel(cancel.get(), std::chrono::minutes(1)));
  });
  while (!ended) {
    EXPECT_EQ(pthread_kill(watch.native_handle(), SIGUSR1), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  pthread_kill(watch.native_handle(), SIGUSR1);
  ASSERT_EQ(eventfd_write(cancel.get(), 1), 0);
  watch.join();
  ASSERT_EQ(sigaction(SIGUSR1, &before, nullptr), 0);
}

// True if the server hung up on `fd` without an answer.
bool HungUp(int fd) {
  uint8_t byte;
  const ssize_t n = recv(fd, &byte, 1, 0);
  return n == 0 || (n < 0 && errno == ECONNRESET);
}

TEST_F(Export, HangsUpOnARequestThatBreaksARule) {
  constexpr uint64_t kLarge = kExportMaxData * 2;
  const ExportRequest bad[] = {
      {0x12345678, kExportRead, 0, 0, 1},
      {kExportMagic, 0, 0, 0, 1},
      {kExportMagic, 6, 0, 0, 1},
      {kExportMagic, kExportRead, kExportFua, 0, 1},
      {kExportMagic, kExportWrite, 2, 0, 1},
      {kExportMagic, kExportRead, 0, 0, 0},
      {kExportMagic, kExportRead, 0, kLarge, 1},
      {kExportMagic, kExportRead, 0, kLarge - 1, 2},
      {kExportMagic, kExportRead, 0, ~uint64_t{0}, 2},
      {kExportMagic, kExportZero, 0, 2, ~uint64_t{0}},
      {kExportMagic, kExportRead, 0, 0, kExportMaxData + 1},
      {kExportMagic, kExportFlush, 0, 0, 1},
      {kExportMagic, kExportFlush, 0, 1, 0},
  };
  for (const ExportRequest& request : bad) {
    Start(2);
    device_->Claim(kLarge);
    ASSERT_EQ(SendAll(peers_[0].get(), &request, sizeof request, nullptr, 0), 0);
    EXPECT_TRUE(HungUp(peers_[0].get())) << request.op << " " << request.offset << " " << request.length;
    peers_.erase(peers_.begin());
    Connect();
    uint8_t byte;
    EXPECT_EQ(client_->Read(0, &byte, 1), 0) << "the other connections go on";
  }
}

TEST_F(Export, RubbishOfAllKindsHarmsOnlyItsConnection) {
  std::mt19937 random(7);
  Start(kExportMaxConnections);
  for (size_t i = 0; i + 1 < peers_.size(); ++i) {
    const int fd = peers_[i].get();
    for (int n = 0; n < 50; ++n) {
      ExportRequest request{kExportMagic, static_cast<uint16_t>(1 + random() % 5), 0, random() % kSize,
                            1 + random() % 4096};
      auto* bytes = reinterpret_cast<uint8_t*>(&request);
      if (random() % 3 == 0) bytes[random() % sizeof request] = static_cast<uint8_t>(random());
      std::vector<uint8_t> body(random() % 5000, static_cast<uint8_t>(random()));
      const size_t head = random() % 5 == 0 ? random() % sizeof request : sizeof request;
      if (SendAll(fd, bytes, head, body.data(), body.size()) != 0) break;
      uint8_t reply[4096];
      while (recv(fd, reply, sizeof reply, MSG_DONTWAIT) > 0) {
      }
    }
    peers_[i].Reset();
  }
  peers_.erase(peers_.begin(), peers_.end() - 1);
  Connect();
  uint8_t byte;
  EXPECT_EQ(client_->Read(0, &byte, 1), 0);
}

TEST(ExportClient, BelievesNoReplyThatIsNone) {
  const ExportReply bad[] = {{0, 0}, {kExportMagic, 5}, {kExportMagic, -5000}};
  for (const ExportReply& reply : bad) {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    UniqueFd other(fds[1]);
    std::vector<UniqueFd> sockets;
    sockets.emplace_back(fds[0]);
    ExportClient client(std::move(sockets));
    std::thread server([&] {
      ExportRequest request;
      EXPECT_EQ(ReceiveAll(other.get(), &request, sizeof request), 0);
      EXPECT_EQ(SendAll(other.get(), &reply, sizeof reply, nullptr, 0), 0);
    });
    uint8_t byte;
    EXPECT_EQ(client.Read(0, &byte, 1), -EPROTO);
    server.join();
    EXPECT_EQ(client.Read(0, &byte, 1), -ESHUTDOWN) << "and does not use the connection again";
  }
}

TEST_F(Export, ManyThreadsShareTheConnections) {
  Start(4);
  Connect();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      std::vector<uint8_t> data(1000), seen(1000);
      for (int i = 0; i < 200; ++i) {
        memset(data.data(), t * 16 + i % 16, data.size());
        const uint64_t offset = t * 10'000 + i;
        ASSERT_EQ(client_->Write(offset, data.data(), data.size(), false), 0);
        ASSERT_EQ(client_->Read(offset, seen.data(), seen.size()), 0);
        ASSERT_EQ(seen, data);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace snapbak
