// SPDX-License-Identifier: MIT
// The control server and the library's side of it, over a real socket, a real
// engine and an image in memory.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>
#include <cstring>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "kernel-module/core/snapbak_hints.h"
#include "native/driver/control_server.h"
#include "native/driver/remote_driver.h"
#include "native/driver/wire.h"

namespace snapbak {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kImageSize = 10 * 65536 + 1234;
constexpr uint32_t kBlockShift = 16;

std::string Directory() {
  char name[] = "/tmp/snapbak-control-XXXXXX";
  return mkdtemp(name);
}

int RawConnect(const std::string& path) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

// Waits until the other side has closed; false after ten seconds.
bool ClosedByPeer(int fd) {
  struct pollfd pfd = {fd, POLLRDHUP, 0};
  return poll(&pfd, 1, 10000) == 1 && (pfd.revents & (POLLRDHUP | POLLHUP)) != 0;
}

// Waits until the condition holds; false after ten seconds.
template <typename Condition>
bool Eventually(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

class ControlServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = Directory();
    image_ = directory_ + "/image";
    path_ = directory_ + "/control";
    const int fd = open(image_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    std::vector<uint8_t> data(kImageSize);
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 31 + i / 4096);
    ASSERT_EQ(write(fd, data.data(), data.size()), static_cast<ssize_t>(data.size()));
    close(fd);
    EngineOptions options;
    options.driver = SNAPBAK_DRIVER_USER;
    ASSERT_EQ(Engine::Open(image_, options, &engine_), 0);
  }

  void TearDown() override {
    if (server_) server_->Stop();
    server_.reset();
    engine_.reset();
    struct stat st;
    EXPECT_NE(lstat(path_.c_str(), &st), 0) << "the socket is removed";
    unlink(path_.c_str());
    unlink(image_.c_str());
    rmdir(directory_.c_str());
  }

  void Serve(ControlServerOptions options = {}) {
    ASSERT_EQ(ControlServer::Listen(path_, engine_.get(), std::move(options), &server_), 0);
    ASSERT_EQ(server_->Start(), 0);
  }

  std::unique_ptr<Driver> Connect() {
    std::unique_ptr<Driver> driver;
    EXPECT_EQ(RemoteDriver::Connect(path_, &driver), 0);
    return driver;
  }

  // OPEN and SETUP; `slots` slots.
  static void Prepare(Driver* driver, SharedMemory* memory, uint32_t slots = 4,
                      uint64_t hold_timeout_ms = 30000) {
    snapbak_open open{};
    open.size = sizeof(open);
    UniqueFd lower;
    ASSERT_EQ(driver->Open(&open, &lower), 0);
    ASSERT_EQ(open.origin_size, kImageSize);
    ASSERT_TRUE(lower.valid());
    snapbak_setup setup{};
    setup.size = sizeof(setup);
    setup.block_shift = kBlockShift;
    setup.nr_slots = slots;
    setup.on_full = SNAPBAK_ON_FULL_BREAK;
    setup.hold_timeout_ms = hold_timeout_ms;
    ASSERT_EQ(driver->Setup(&setup, memory), 0);
    ASSERT_EQ(memory->size(), setup.map_size);
  }

  static int StartSession(Driver* driver, uint64_t timeout_ms = 10000) {
    snapbak_start start{};
    start.size = sizeof(start);
    start.timeout_ms = timeout_ms;
    const int ret = driver->Start(&start);
    if (ret == 0) {
      EXPECT_NE(start.start_realtime_ns, 0u);
    }
    return ret;
  }

  snapbak_status StatusOf(Driver* driver) {
    snapbak_status status{};
    status.size = sizeof(status);
    EXPECT_EQ(driver->Status(&status), 0);
    return status;
  }

  uint32_t State() {
    snapbak_status status{};
    status.size = sizeof(status);
    EXPECT_EQ(engine_->HandleStatus(&status), 0);
    return status.nr_slots == 0 && status.state == SNAPBAK_STATE_NEW ? UINT32_MAX : status.state;
  }

  std::string directory_, image_, path_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, ASessionGoesFromOpenToFinishOverTheSocket) {
  Serve();
  auto driver = Connect();
  snapbak_query query{};
  query.size = sizeof(query);
  ASSERT_EQ(driver->Query(&query), 0);
  EXPECT_EQ(query.abi_version, static_cast<uint32_t>(SNAPBAK_ABI_VERSION));
  EXPECT_EQ(query.driver, static_cast<uint32_t>(SNAPBAK_DRIVER_USER));

  SharedMemory memory;
  Prepare(driver.get(), &memory);
  EXPECT_EQ(memory.geometry().origin_size, kImageSize);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  ASSERT_EQ(StartSession(driver.get()), 0);

  // A write captures its block into a slot that we can read.
  std::vector<uint8_t> before(65536);
  ASSERT_EQ(engine_->Read(before.data(), 65536, 65536), 0);
  ASSERT_EQ(engine_->Write("changed", 7, 65536 + 100, false), 0);
  snapbak_ring events = memory.EventRing();
  ASSERT_EQ(snapbak_ring_ready(&events), 1);
  const snapbak_event event = snapbak_ring_get_event(&events, 0);
  EXPECT_EQ(event.block, 1u);
  EXPECT_EQ(event.type, SNAPBAK_EVENT_CAPTURED);
  ASSERT_LT(event.slot, 4u);
  EXPECT_EQ(memcmp(memory.slot(event.slot), before.data(), before.size()), 0);
  snapbak_ring_release(&events, 1);

  // The driver sees our claims, and STATUS tells of them.
  snapbak_finish finish{};
  finish.size = sizeof(finish);
  EXPECT_EQ(driver->Finish(&finish), -EBUSY);
  for (uint64_t b = 0; b < memory.geometry().nr_blocks; ++b)
    snapbak_bitmap_test_and_clear(memory.bitmap(), b);
  EXPECT_EQ(StatusOf(driver.get()).pending_blocks, 0u);
  EXPECT_EQ(driver->Finish(&finish), 0);
  EXPECT_EQ(StatusOf(driver.get()).state, static_cast<uint32_t>(SNAPBAK_STATE_FINISHED));
}

TEST_F(ControlServerTest, AnotherConnectionGivesHintsToTheSession) {
  Serve();
  auto driver = Connect();
  auto other = Connect();
  snapbak_query query{};
  query.size = sizeof(query);
  ASSERT_EQ(other->Query(&query), 0);
  EXPECT_NE(query.features & SNAPBAK_F_HINTS, 0u);
  snapbak_hint hint{};
  hint.size = sizeof(hint);
  hint.extent = {65536, 65536};
  EXPECT_EQ(other->Hint(&hint), -ENODATA);
  SharedMemory memory;
  Prepare(driver.get(), &memory);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  ASSERT_EQ(StartSession(driver.get()), 0);
  EXPECT_EQ(other->Hint(&hint), 0);
  EXPECT_EQ(StatusOf(other.get()).counters[SNAPBAK_C_HINTS], 1u);
  uint32_t mine = 0;
  snapbak_extent out[SNAPBAK_NR_HINTS];
  ASSERT_EQ(snapbak_hints_take(memory.header(), &mine, out), 1u);
  EXPECT_EQ(out[0].offset, 65536u);
  hint.extent.offset = kImageSize;
  EXPECT_EQ(other->Hint(&hint), -EINVAL);
}

TEST_F(ControlServerTest, TheSocketIsForItsOwnerOnly) {
  const mode_t before = umask(0);
  Serve();
  EXPECT_EQ(umask(before), 0u) << "the process's umask stays as it was";
  struct stat st;
  ASSERT_EQ(lstat(path_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
}

TEST_F(ControlServerTest, APeerThatIsNotAllowedHearsEperm) {
  ControlServerOptions options;
  options.allow = [](const struct ucred& peer) { return peer.uid == geteuid() + 1; };
  Serve(options);
  std::unique_ptr<Driver> driver;
  EXPECT_EQ(RemoteDriver::Connect(path_, &driver), -EPERM);
  EXPECT_EQ(driver, nullptr);
}

TEST_F(ControlServerTest, OnlyTheSameUserAndRootAreAllowed) {
  struct ucred peer = {1, geteuid(), 0};
  EXPECT_TRUE(PeerAllowed(peer));
  peer.uid = 0;
  EXPECT_TRUE(PeerAllowed(peer));
  peer.uid = geteuid() + 1;
  EXPECT_FALSE(PeerAllowed(peer));
}

TEST_F(ControlServerTest, AnotherUserIsRefusedEvenIfTheFileModeWasOpened) {
  if (geteuid() != 0) GTEST_SKIP() << "SKIPPED: needs root, to become another user";
  Serve();
  ASSERT_EQ(chmod(path_.c_str(), 0666), 0);
  ASSERT_EQ(chmod(directory_.c_str(), 0755), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(100);
    const int fd = RawConnect(path_);
    if (fd < 0) _exit(101);
    WireReplyHeader reply;
    if (recv(fd, &reply, sizeof(reply), MSG_WAITALL) != sizeof(reply)) _exit(102);
    char more;
    _exit(reply.result == -EPERM && recv(fd, &more, 1, 0) == 0 ? 0 : 103);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

int StopWrites(Driver* driver, uint64_t timeout_ms = 600'000) {
  snapbak_stop_writes stop{};
  stop.size = sizeof stop;
  stop.timeout_ms = timeout_ms;
  return driver->StopWrites(&stop);
}

TEST_F(ControlServerTest, WritesThatWereStoppedOverTheSocketGoOnWithTheStart) {
  Serve();
  auto driver = Connect();
  SharedMemory memory;
  Prepare(driver.get(), &memory);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  ASSERT_EQ(StopWrites(driver.get()), 0);
  auto write = std::async(std::launch::async, [&] { return engine_->Write("changed", 7, 0, false); });
  ASSERT_EQ(StartSession(driver.get()), 0);
  EXPECT_EQ(write.get(), 0);
  EXPECT_EQ(StatusOf(driver.get()).counters[SNAPBAK_C_CAPTURED], 1u) << "it came after the start instant";
}

TEST_F(ControlServerTest, WritesThatWereStoppedGoOnWhenTheConnectionCloses) {
  Serve();
  auto driver = Connect();
  SharedMemory memory;
  Prepare(driver.get(), &memory);
  ASSERT_EQ(StopWrites(driver.get()), 0);
  auto write = std::async(std::launch::async, [&] { return engine_->Write("changed", 7, 0, false); });
  driver.reset();
  EXPECT_EQ(write.get(), 0);
}

TEST_F(ControlServerTest, WritesThatWereStoppedGoOnWhenTheLibraryIsKilled) {
  // Before there are threads: the child is the library.
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::unique_ptr<Driver> driver;
    while (RemoteDriver::Connect(path_, &driver) != 0) usleep(1000);
    snapbak_open open{};
    open.size = sizeof(open);
    snapbak_setup setup{};
    setup.size = sizeof(setup);
    setup.block_shift = kBlockShift;
    setup.nr_slots = 4;
    setup.hold_timeout_ms = 30000;
    UniqueFd lower;
    SharedMemory memory;
    if (driver->Open(&open, &lower) != 0 || driver->Setup(&setup, &memory) != 0) _exit(101);
    if (StopWrites(driver.get()) != 0 || write(ready[1], "s", 1) != 1) _exit(102);
    for (;;) pause();
  }
  close(ready[1]);
  Serve();
  char stopped = 0;
  ASSERT_EQ(read(ready[0], &stopped, 1), 1) << "the child has ended";
  close(ready[0]);
  auto write = std::async(std::launch::async, [&] { return engine_->Write("changed", 7, 0, false); });
  EXPECT_EQ(write.wait_for(milliseconds(20)), std::future_status::timeout);
  ASSERT_EQ(kill(child, SIGKILL), 0);
  EXPECT_EQ(write.get(), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(Eventually([&] { return State() == UINT32_MAX; })) << "nothing is left of its session";
}

// One request by hand, for what RemoteDriver keeps to itself: the descriptors.
int RawCall(int socket, uint32_t cmd, uint32_t sequence, const void* body, UniqueFd (&fds)[kWireMaxFds]) {
  uint8_t request[sizeof(WireRequestHeader) + sizeof(WireBody)];
  const size_t size = EncodeRequest(cmd, sequence, body, request);
  if (send(socket, request, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) return -EIO;
  uint8_t reply[kWireMaxReply];
  struct iovec iov = {reply, sizeof(WireReplyHeader) + static_cast<size_t>(WirePayloadSize(cmd))};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kWireMaxFds)];
  struct msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (recvmsg(socket, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(iov.iov_len))
    return -EIO;
  const struct cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
  for (size_t i = 0; cmsg != nullptr && CMSG_LEN(i * sizeof(int)) < cmsg->cmsg_len; ++i) {
    int fd;
    memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
    fds[i].Reset(fd);
  }
  WireReplyHeader header;
  memcpy(&header, reply, sizeof(header));
  return header.result;
}

TEST_F(ControlServerTest, WhatTheLibraryIsGivenIsNoMeansAgainstTheDriver) {
  Serve();
  const UniqueFd socket(RawConnect(path_));
  snapbak_open open{};
  open.size = sizeof(open);
  UniqueFd lower[kWireMaxFds], given[kWireMaxFds];
  ASSERT_EQ(RawCall(socket.get(), SNAPBAK_IOC_OPEN, 1, &open, lower), 0);
  EXPECT_EQ(fcntl(lower[0].get(), F_GETFL) & O_ACCMODE, O_RDONLY) << "the lower device is there to be read";
  EXPECT_LT(pwrite(lower[0].get(), "x", 1, 0), 0);
  snapbak_setup setup{};
  setup.size = sizeof(setup);
  setup.block_shift = kBlockShift;
  setup.nr_slots = 1;
  setup.on_full = SNAPBAK_ON_FULL_HOLD;
  setup.hold_timeout_ms = 60000;
  ASSERT_EQ(RawCall(socket.get(), SNAPBAK_IOC_SETUP, 2, &setup, given), 0);

  // The memory keeps its size, so that no access of the driver's can be a SIGBUS.
  const int memory_fd = given[0].get();
  EXPECT_EQ(fcntl(memory_fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  EXPECT_LT(ftruncate(memory_fd, 0), 0);
  EXPECT_LT(ftruncate(memory_fd, 1 << 30), 0);
  EXPECT_LT(fcntl(memory_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
  struct stat st;
  ASSERT_EQ(fstat(memory_fd, &st), 0);
  EXPECT_EQ(st.st_nlink, 0u) << "it has no name by which another process could open it";

  // All of it taken away: the driver goes on with zeroes.
  SharedMemory memory;
  ASSERT_EQ(SharedMemory::Adopt(std::move(given[0]), &memory), 0);
  EXPECT_EQ(fallocate(memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, st.st_size), 0);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  snapbak_start start{};
  start.size = sizeof(start);
  start.timeout_ms = 10000;
  UniqueFd none[kWireMaxFds];
  ASSERT_EQ(RawCall(socket.get(), SNAPBAK_IOC_START, 3, &start, none), 0);

  // Wake-ups that nobody takes, on a descriptor made to block: the writes go on.
  for (const int i : {1, 2}) ASSERT_EQ(fcntl(given[i].get(), F_SETFL, 0), 0);
  auto writes = std::async(std::launch::async, [&] {
    for (int i = 0; i < 5000; ++i) {
      snapbak_store_relaxed(&memory.header()->library_asleep, 1u);
      snapbak_bitmap_set_range(memory.bitmap(), 0, 1);
      snapbak_ring events = memory.EventRing(), free_slots = memory.FreeRing();
      events.mine = free_slots.mine = static_cast<uint32_t>(i);
      if (engine_->Write("a", 1, 0, false) != 0) return false;
      snapbak_ring_put_slot(&free_slots, 0, 0);
      snapbak_ring_publish(&free_slots, 1);
      snapbak_ring_release(&events, 1);
    }
    return true;
  });
  const bool done = writes.wait_for(std::chrono::seconds(30)) == std::future_status::ready;
  EXPECT_TRUE(done) << "a write waits for the library to take its wake-ups";
  EXPECT_EQ(StatusOf(Connect().get()).counters[SNAPBAK_C_CAPTURED], 5000u);

  // A shut end of the kicks is readable for ever; the server does not look at it for ever.
  ASSERT_EQ(shutdown(given[2].get(), SHUT_RDWR), 0);
  EXPECT_TRUE(ClosedByPeer(socket.get()));
  EXPECT_TRUE(writes.get());
}

TEST_F(ControlServerTest, ALiveServerIsNotReplacedADeadOneIs) {
  Serve();
  std::unique_ptr<ControlServer> second;
  EXPECT_EQ(ControlServer::Listen(path_, engine_.get(), {}, &second), -EADDRINUSE);
  EXPECT_NE(Connect(), nullptr) << "the first one still serves";
  server_->Stop();

  // What a killed server leaves behind.
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, path_.c_str());
  UniqueFd dead(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(dead.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)), 0);
  dead.Reset();
  struct stat st;
  ASSERT_EQ(lstat(path_.c_str(), &st), 0);
  Serve();
  EXPECT_NE(Connect(), nullptr);
}

TEST_F(ControlServerTest, AFileThatIsNoSocketIsLeftAlone) {
  const int fd = open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  ASSERT_EQ(write(fd, "precious", 8), 8);
  close(fd);
  EXPECT_EQ(ControlServer::Listen(path_, engine_.get(), {}, &server_), -EEXIST);
  struct stat st;
  ASSERT_EQ(stat(path_.c_str(), &st), 0);
  EXPECT_EQ(st.st_size, 8);
  unlink(path_.c_str());
}

TEST_F(ControlServerTest, AStoppedServerLeavesItsSuccessorsSocketAlone) {
  Serve();
  ASSERT_EQ(unlink(path_.c_str()), 0);
  std::unique_ptr<ControlServer> successor;
  ASSERT_EQ(ControlServer::Listen(path_, engine_.get(), {}, &successor), 0);
  server_->Stop();
  struct stat st;
  EXPECT_EQ(lstat(path_.c_str(), &st), 0);
  successor->Stop();
}

TEST_F(ControlServerTest, APathTooLongForASocketIsSaidSo) {
  EXPECT_EQ(ControlServer::Listen(std::string(200, 'x'), engine_.get(), {}, &server_), -ENAMETOOLONG);
  std::unique_ptr<Driver> driver;
  EXPECT_EQ(RemoteDriver::Connect(std::string(200, 'x'), &driver), -ENAMETOOLONG);
}

TEST_F(ControlServerTest, RubbishEndsItsConnectionAndNoOther) {
  Serve();
  auto good = Connect();
  UniqueFd bad(RawConnect(path_));
  ASSERT_GE(bad.get(), 0);
  ASSERT_EQ(send(bad.get(), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
  EXPECT_TRUE(ClosedByPeer(bad.get()));
  StatusOf(good.get());
}

TEST_F(ControlServerTest, ARequestMayComeByteByByte) {
  Serve();
  UniqueFd fd(RawConnect(path_));
  snapbak_query query{};
  query.size = sizeof(query);
  uint8_t bytes[sizeof(WireRequestHeader) + sizeof(WireBody)];
  const size_t size = EncodeRequest(SNAPBAK_IOC_QUERY, 5, &query, bytes);
  for (size_t i = 0; i < size; ++i) ASSERT_EQ(send(fd.get(), bytes + i, 1, MSG_NOSIGNAL), 1);
  WireReplyHeader reply;
  ASSERT_EQ(recv(fd.get(), &reply, sizeof(reply), MSG_WAITALL), static_cast<ssize_t>(sizeof(reply)));
  EXPECT_EQ(reply.result, 0);
  EXPECT_EQ(reply.sequence, 5u);
}

TEST_F(ControlServerTest, RequestsInOnePieceAreAnsweredInTheirOrder) {
  Serve();
  UniqueFd fd(RawConnect(path_));
  snapbak_query query{};
  query.size = sizeof(query);
  std::vector<uint8_t> all;
  constexpr uint32_t kCount = 100;
  for (uint32_t i = 0; i < kCount; ++i) {
    uint8_t bytes[sizeof(WireRequestHeader) + sizeof(WireBody)];
    const size_t size = EncodeRequest(SNAPBAK_IOC_QUERY, i, &query, bytes);
    all.insert(all.end(), bytes, bytes + size);
  }
  ASSERT_EQ(send(fd.get(), all.data(), all.size(), MSG_NOSIGNAL), static_cast<ssize_t>(all.size()));
  for (uint32_t i = 0; i < kCount; ++i) {
    uint8_t reply[sizeof(WireReplyHeader) + sizeof(snapbak_query)];
    ASSERT_EQ(recv(fd.get(), reply, sizeof(reply), MSG_WAITALL), static_cast<ssize_t>(sizeof(reply)));
    WireReplyHeader header;
    memcpy(&header, reply, sizeof(header));
    EXPECT_EQ(header.sequence, i);
    EXPECT_EQ(header.result, 0);
  }
}

TEST_F(ControlServerTest, HalfARequestIsNotWaitedForForEver) {
  ControlServerOptions options;
  options.partial_timeout = milliseconds(50);
  Serve(options);
  UniqueFd half(RawConnect(path_));
  UniqueFd silent(RawConnect(path_));
  ASSERT_EQ(send(half.get(), &kWireMagic, 3, MSG_NOSIGNAL), 3);
  EXPECT_TRUE(ClosedByPeer(half.get()));
  struct pollfd pfd = {silent.get(), POLLRDHUP, 0};
  EXPECT_EQ(poll(&pfd, 1, 0), 0) << "a connection that sends nothing stays";
}

TEST_F(ControlServerTest, DescriptorsThatAPeerAttachesAreClosed) {
  Serve();
  UniqueFd fd(RawConnect(path_));
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);
  snapbak_query query{};
  query.size = sizeof(query);
  uint8_t bytes[sizeof(WireRequestHeader) + sizeof(WireBody)];
  const size_t size = EncodeRequest(SNAPBAK_IOC_QUERY, 1, &query, bytes);
  struct iovec iov = {bytes, size};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  struct cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
  cmsg->cmsg_level = SOL_SOCKET;
  cmsg->cmsg_type = SCM_RIGHTS;
  cmsg->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(cmsg), &pipe_fds[1], sizeof(int));
  ASSERT_EQ(sendmsg(fd.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(size));
  WireReplyHeader reply;
  ASSERT_EQ(recv(fd.get(), &reply, sizeof(reply), MSG_WAITALL), static_cast<ssize_t>(sizeof(reply)));
  EXPECT_EQ(reply.result, 0);
  write_end.Reset();
  struct pollfd pfd = {read_end.get(), POLLIN, 0};
  EXPECT_EQ(poll(&pfd, 1, 10000), 1) << "nobody holds the write end any more";
}

TEST_F(ControlServerTest, ThereIsRoomForSixteenAndTheNextIsToldSo) {
  Serve();
  std::vector<std::unique_ptr<Driver>> drivers;
  for (int i = 0; i < 16; ++i) drivers.push_back(Connect());
  std::unique_ptr<Driver> more;
  EXPECT_EQ(RemoteDriver::Connect(path_, &more), -EUSERS);
  drivers.pop_back();
  EXPECT_TRUE(Eventually([&] { return RemoteDriver::Connect(path_, &more) == 0; }));
}

TEST_F(ControlServerTest, ASecondSessionIsRefusedAndTheFirstGoesOn) {
  Serve();
  auto first = Connect();
  auto second = Connect();
  SharedMemory memory;
  Prepare(first.get(), &memory);
  snapbak_open open{};
  open.size = sizeof(open);
  UniqueFd lower;
  EXPECT_EQ(second->Open(&open, &lower), -EBUSY);
  EXPECT_FALSE(lower.valid());
  snapbak_abort abort{};
  abort.size = sizeof(abort);
  abort.reason = SNAPBAK_REASON_ABORTED;
  EXPECT_EQ(second->Abort(&abort), -EPERM) << "a session obeys its owner only";
  EXPECT_EQ(StartSession(second.get()), -EPERM);
  EXPECT_EQ(StartSession(first.get()), 0);
}

TEST_F(ControlServerTest, StartingSeveralSessionsIsNotForThisDriver) {
  Serve();
  auto driver = Connect();
  SharedMemory memory;
  Prepare(driver.get(), &memory);
  snapbak_start start{};
  start.size = sizeof(start);
  start.timeout_ms = 1000;
  start.nr_others = 1;
  EXPECT_EQ(driver->Start(&start), -EOPNOTSUPP);
  EXPECT_EQ(State(), static_cast<uint32_t>(SNAPBAK_STATE_READY));
}

TEST_F(ControlServerTest, AConnectionThatGoesEndsItsSessionInEveryState) {
  Serve();
  for (const char* state : {"ready", "armed", "aborted", "finished", "new"}) {
    SCOPED_TRACE(state);
    auto driver = Connect();
    SharedMemory memory;
    const std::string s = state;
    if (s == "new") {
      snapbak_open open{};
      open.size = sizeof(open);
      UniqueFd lower;
      ASSERT_EQ(driver->Open(&open, &lower), 0);
    } else {
      Prepare(driver.get(), &memory);
      if (s != "finished") snapbak_bitmap_set_range(memory.bitmap(), 0, 5);
      if (s != "ready") {
        ASSERT_EQ(StartSession(driver.get()), 0);
      }
      if (s == "aborted") {
        snapbak_abort abort{};
        abort.size = sizeof(abort);
        abort.reason = SNAPBAK_REASON_ABORTED;
        ASSERT_EQ(driver->Abort(&abort), 0);
      }
      if (s == "finished") {
        snapbak_finish finish{};
        finish.size = sizeof(finish);
        ASSERT_EQ(driver->Finish(&finish), 0);
      }
    }
    driver.reset();
    EXPECT_TRUE(Eventually([&] { return State() == UINT32_MAX; })) << "the session is forgotten";
    if (s == "armed") {
      EXPECT_EQ(memory.header()->reason, static_cast<uint32_t>(SNAPBAK_REASON_CLOSED));
    }
    ASSERT_EQ(engine_->Write("x", 1, 0, false), 0) << "the origin goes on";
  }
  // A session in the state new looks like none: that it is gone shows when the next one begins.
  EXPECT_TRUE(Eventually([&] {
    snapbak_open open{};
    open.size = sizeof(open);
    UniqueFd lower;
    return Connect()->Open(&open, &lower) == 0;
  }));
}

TEST_F(ControlServerTest, AHeldWriteIsReleasedByAKickAfterASlotCameBack) {
  Serve();
  auto driver = Connect();
  SharedMemory memory;
  Prepare(driver.get(), &memory, 1);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  ASSERT_EQ(StartSession(driver.get()), 0);
  ASSERT_EQ(engine_->Write("a", 1, 0, false), 0);  // takes the one slot
  auto held = std::async(std::launch::async, [&] { return engine_->Write("b", 1, 65536, false); });

  // The library sleeps, is woken by WANTED, returns the slot, and kicks.
  snapbak_ring events = memory.EventRing();
  snapbak_ring free_slots = memory.FreeRing();
  bool wanted = false;
  uint32_t slot = UINT32_MAX;
  while (!wanted) {
    snapbak_store_relaxed(&memory.header()->library_asleep, 1u);
    snapbak_full_fence();
    if (snapbak_ring_ready(&events) == 0) {
      ASSERT_EQ(driver->WaitEvent(-1, 10000), 0);
    }
    while (snapbak_ring_ready(&events) > 0) {
      const snapbak_event event = snapbak_ring_get_event(&events, 0);
      if (event.type == SNAPBAK_EVENT_CAPTURED && event.block == 0) slot = event.slot;
      if (event.type == SNAPBAK_EVENT_WANTED) wanted = event.block == 1;
      snapbak_ring_release(&events, 1);
    }
  }
  EXPECT_EQ(held.wait_for(milliseconds(0)), std::future_status::timeout) << "no slot: the write is held";
  // STATUS of another client does not wait for the held write.
  auto other = Connect();
  EXPECT_EQ(StatusOf(other.get()).counters[SNAPBAK_C_HELD_NOW], 1u);

  ASSERT_EQ(slot, 0u);
  snapbak_ring_put_slot(&free_slots, 0, slot);
  snapbak_ring_publish(&free_slots, 1);
  driver->Kick();
  ASSERT_EQ(held.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(held.get(), 0);
}

TEST_F(ControlServerTest, AHeldWriteIsReleasedWhenTheLibraryDies) {
  Serve();
  auto driver = Connect();
  SharedMemory memory;
  Prepare(driver.get(), &memory, 1, 86400000);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  ASSERT_EQ(StartSession(driver.get()), 0);
  ASSERT_EQ(engine_->Write("a", 1, 0, false), 0);
  auto held = std::async(std::launch::async, [&] { return engine_->Write("b", 1, 65536, false); });
  ASSERT_TRUE(Eventually([&] { return memory.header()->driver_waiting > 0; }));
  driver.reset();
  ASSERT_EQ(held.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(held.get(), 0);
}

// A page that is not there: whoever reads it waits until Give().
class MissingPage {
 public:
  MissingPage() : fd_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC))) {
    if (!fd_.valid()) return;
    struct uffdio_api api = {};
    api.api = UFFD_API;
    page_ = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register range = {};
    range.range = {reinterpret_cast<uint64_t>(page_), 4096};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    ok_ = ioctl(fd_.get(), UFFDIO_API, &api) == 0 && ioctl(fd_.get(), UFFDIO_REGISTER, &range) == 0;
  }
  ~MissingPage() {
    if (page_ != nullptr) munmap(page_, 4096);
  }
  bool ok() const { return ok_; }
  const void* data() const { return page_; }
  // True once somebody waits for it; false after ten seconds.
  bool IsAwaited() const {
    struct pollfd pfd = {fd_.get(), POLLIN, 0};
    return poll(&pfd, 1, 10000) == 1;
  }
  void Give() {
    struct uffdio_zeropage zero = {};
    zero.range = {reinterpret_cast<uint64_t>(page_), 4096};
    EXPECT_EQ(ioctl(fd_.get(), UFFDIO_ZEROPAGE, &zero), 0);
  }

 private:
  UniqueFd fd_;
  void* page_ = nullptr;
  bool ok_ = false;
};

TEST_F(ControlServerTest, AnOwnerThatDiesWhileItsStartWaitsIsNotWaitedFor) {
  MissingPage page;
  if (!page.ok()) GTEST_SKIP() << "SKIPPED: needs userfaultfd (root, or vm.unprivileged_userfaultfd=1)";
  Serve();
  UniqueFd socket(RawConnect(path_));
  snapbak_open open{};
  open.size = sizeof(open);
  UniqueFd lower[kWireMaxFds], given[kWireMaxFds];
  ASSERT_EQ(RawCall(socket.get(), SNAPBAK_IOC_OPEN, 1, &open, lower), 0);
  snapbak_setup setup{};
  setup.size = sizeof(setup);
  setup.block_shift = kBlockShift;
  setup.nr_slots = 1;
  setup.hold_timeout_ms = 60000;
  ASSERT_EQ(RawCall(socket.get(), SNAPBAK_IOC_SETUP, 2, &setup, given), 0);

  auto stuck = std::async(std::launch::async, [&] { return engine_->Write(page.data(), 4096, 0, false); });
  EXPECT_TRUE(page.IsAwaited());
  snapbak_start start{};
  start.size = sizeof(start);
  start.timeout_ms = 600000;
  uint8_t request[sizeof(WireRequestHeader) + sizeof(WireBody)];
  const size_t size = EncodeRequest(SNAPBAK_IOC_START, 3, &start, request);
  EXPECT_EQ(send(socket.get(), request, size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
  // START is under way once it keeps other requests that change a session waiting.
  const auto next = Connect();
  std::future<int> opened;
  const auto ask = [&] {
    return std::async(std::launch::async, [&] {
      snapbak_open request{};
      request.size = sizeof(request);
      UniqueFd fd;
      return next->Open(&request, &fd);
    });
  };
  EXPECT_TRUE(Eventually([&] {
    opened = ask();
    return opened.wait_for(milliseconds(200)) == std::future_status::timeout;
  }));
  socket.Reset();
  EXPECT_EQ(opened.wait_for(milliseconds(10000)), std::future_status::ready)
      << "a dead owner's START goes on";
  EXPECT_EQ(stuck.wait_for(milliseconds(0)), std::future_status::timeout)
      << "the write in flight is still there";
  page.Give();
  EXPECT_EQ(stuck.get(), 0);
  EXPECT_EQ(opened.get(), 0);
}

TEST_F(ControlServerTest, StoppingTheServerReleasesHeldWritesAndTheLibraryIsTold) {
  Serve();
  auto driver = Connect();
  SharedMemory memory;
  Prepare(driver.get(), &memory, 1, 86400000);
  snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  ASSERT_EQ(StartSession(driver.get()), 0);
  ASSERT_EQ(engine_->Write("a", 1, 0, false), 0);
  auto held = std::async(std::launch::async, [&] { return engine_->Write("b", 1, 65536, false); });
  ASSERT_TRUE(Eventually([&] { return memory.header()->driver_waiting > 0; }));
  server_->Stop();
  EXPECT_EQ(held.get(), 0);
  EXPECT_EQ(memory.header()->state, static_cast<uint32_t>(SNAPBAK_STATE_BROKEN));
  int ret;
  do {
    ret = driver->WaitEvent(-1, 10000);
  } while (ret == 0);
  EXPECT_EQ(ret, -ECONNRESET);
  snapbak_status status{};
  status.size = sizeof(status);
  EXPECT_EQ(driver->Status(&status), -ECONNRESET);
}

TEST_F(ControlServerTest, ManyStatusClientsAreServedAtOnce) {
  Serve();
  auto owner = Connect();
  SharedMemory memory;
  Prepare(owner.get(), &memory);
  ASSERT_EQ(StartSession(owner.get()), 0);
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      auto driver = Connect();
      for (int i = 0; i < 200; ++i) {
        snapbak_status status{};
        status.size = sizeof(status);
        if (driver->Status(&status) == 0 && status.state == SNAPBAK_STATE_ARMED) ++good;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good.load(), 8 * 200);
}

TEST_F(ControlServerTest, WaitEventHearsTheCancelDescriptorAndTheClock) {
  Serve();
  auto driver = Connect();
  SharedMemory memory;
  Prepare(driver.get(), &memory);
  EXPECT_EQ(driver->WaitEvent(-1, 1), -ETIMEDOUT);
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);
  ASSERT_EQ(write(write_end.get(), "x", 1), 1);
  EXPECT_EQ(driver->WaitEvent(read_end.get(), -1), -ECANCELED);
}

TEST_F(ControlServerTest, NoDescriptorIsLeftBehindOrInheritedByAChild) {
  struct Open {
    int all = 0, inheritable = 0;
  };
  const auto count = [] {
    Open open;
    for (int fd = 0; fd < 1024; ++fd) {
      const int flags = fcntl(fd, F_GETFD);
      open.all += flags >= 0;
      open.inheritable += flags >= 0 && (flags & FD_CLOEXEC) == 0;
    }
    return open;
  };
  const int inherited = count().inheritable;  // ours, from whoever runs the tests
  Serve();
  const int before = count().all;
  for (int i = 0; i < 20; ++i) {
    auto driver = Connect();
    SharedMemory memory;
    Prepare(driver.get(), &memory);
    EXPECT_EQ(count().inheritable, inherited);
    driver.reset();
    ASSERT_TRUE(Eventually([&] { return State() == UINT32_MAX; }));
  }
  EXPECT_TRUE(Eventually([&] { return count().all == before; })) << before << " became " << count().all;
}

// --- what the library's side makes of a server that is not ours

class RubbishServer : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = Directory();
    path_ = directory_ + "/control";
    ASSERT_EQ(ControlSocket::Listen(path_, &socket_), 0);
  }
  void TearDown() override {
    socket_.Close();
    rmdir(directory_.c_str());
  }

  // Connects while `serve(fd)` plays the other side; the result of Connect().
  template <typename Serve>
  int ConnectTo(Serve serve, milliseconds timeout = milliseconds(10000)) {
    std::thread thread([&] {
      struct pollfd pfd = {socket_.fd(), POLLIN, 0};
      poll(&pfd, 1, 10000);
      UniqueFd fd(accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
      uint8_t request[sizeof(WireRequestHeader) + sizeof(snapbak_query)];
      EXPECT_EQ(recv(fd.get(), request, sizeof(request), MSG_WAITALL), static_cast<ssize_t>(sizeof(request)));
      WireReplyHeader header = {kWireMagic, SNAPBAK_IOC_QUERY, sizeof(snapbak_query), 1, 0, 0};
      snapbak_query query{};
      query.size = sizeof(query);
      query.abi_version = SNAPBAK_ABI_VERSION;
      serve(fd.get(), header, query);
    });
    std::unique_ptr<Driver> driver;
    RemoteDriverOptions options;
    options.reply_timeout = timeout;
    const int ret = RemoteDriver::Connect(path_, options, &driver);
    thread.join();
    return ret;
  }

  static void Reply(int fd, const WireReplyHeader& header, const snapbak_query& query) {
    uint8_t bytes[sizeof(header) + sizeof(query)];
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), &query, sizeof(query));
    EXPECT_EQ(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), static_cast<ssize_t>(sizeof(bytes)));
  }

  std::string directory_, path_;
  ControlSocket socket_;
};

TEST_F(RubbishServer, TheTrueReplyIsTaken) {
  EXPECT_EQ(ConnectTo([](int fd, WireReplyHeader header, snapbak_query query) { Reply(fd, header, query); }),
            0);
}

TEST_F(RubbishServer, WhatIsNotTheContractIsAProtocolError) {
  using Spoil = void (*)(WireReplyHeader*, snapbak_query*);
  const Spoil spoilt[] = {
      [](WireReplyHeader* h, snapbak_query*) { h->magic ^= 1; },
      [](WireReplyHeader* h, snapbak_query*) { h->cmd = SNAPBAK_IOC_SETUP; },
      [](WireReplyHeader* h, snapbak_query*) { h->size -= 8; },
      [](WireReplyHeader* h, snapbak_query*) { h->size = 0xffffffff; },
      [](WireReplyHeader* h, snapbak_query*) { h->size = 0; },
      [](WireReplyHeader* h, snapbak_query*) { h->sequence = 2; },
      [](WireReplyHeader* h, snapbak_query*) { h->result = 1; },
      [](WireReplyHeader* h, snapbak_query*) { h->result = -100000; },
      [](WireReplyHeader* h, snapbak_query*) { h->reserved = 1; },
      [](WireReplyHeader*, snapbak_query* q) { q->size = 4; },
      [](WireReplyHeader*, snapbak_query* q) { memset(q->version, 'x', sizeof(q->version)); },
  };
  int number = 0;
  for (const Spoil spoil : spoilt) {
    SCOPED_TRACE(number++);
    EXPECT_EQ(ConnectTo([&](int fd, WireReplyHeader header, snapbak_query query) {
                spoil(&header, &query);
                Reply(fd, header, query);
              }),
              -EPROTO);
  }
  EXPECT_EQ(ConnectTo([](int fd, WireReplyHeader, snapbak_query) {
              EXPECT_EQ(send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, MSG_NOSIGNAL), 28);
            }),
            -EPROTO);
}

TEST_F(RubbishServer, AnotherVersionIsNamedAsSuch) {
  EXPECT_EQ(ConnectTo([](int fd, WireReplyHeader header, snapbak_query query) {
              query.abi_version = SNAPBAK_ABI_VERSION + 1;
              Reply(fd, header, query);
            }),
            -EPROTONOSUPPORT);
  EXPECT_EQ(ConnectTo([](int fd, WireReplyHeader header, snapbak_query) {
              header.size = 0;
              header.result = -ENOTTY;
              send(fd, &header, sizeof(header), MSG_NOSIGNAL);
            }),
            -EPROTONOSUPPORT);
}

TEST_F(RubbishServer, AConnectionThatEndsOrStallsIsSaidSo) {
  EXPECT_EQ(ConnectTo([](int, WireReplyHeader, snapbak_query) {}), -ECONNRESET);
  EXPECT_EQ(ConnectTo([](int fd, WireReplyHeader header, snapbak_query) {
              send(fd, &header, sizeof(header) - 1, MSG_NOSIGNAL);
            }),
            -ECONNRESET);
  EXPECT_EQ(ConnectTo([](int fd, WireReplyHeader, snapbak_query) { EXPECT_TRUE(ClosedByPeer(fd)); },
                      milliseconds(50)),
            -ETIMEDOUT);
}

TEST_F(RubbishServer, DescriptorsThatNobodyAskedForAreClosedAndAProtocolError) {
  int pipe_fds[2];
  ASSERT_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
  UniqueFd read_end(pipe_fds[0]), write_end(pipe_fds[1]);
  for (const size_t count : {1, 3, 5}) {
    EXPECT_EQ(ConnectTo([&](int fd, WireReplyHeader header, snapbak_query query) {
                struct iovec iov[2] = {{&header, sizeof(header)}, {&query, sizeof(query)}};
                alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 5)] = {};
                struct msghdr message = {};
                message.msg_iov = iov;
                message.msg_iovlen = 2;
                message.msg_control = control;
                message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
                struct cmsghdr* cmsg = CMSG_FIRSTHDR(&message);
                cmsg->cmsg_level = SOL_SOCKET;
                cmsg->cmsg_type = SCM_RIGHTS;
                cmsg->cmsg_len = CMSG_LEN(sizeof(int) * count);
                for (size_t i = 0; i < count; ++i) {
                  memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &pipe_fds[1], sizeof(int));
                }
                EXPECT_GT(sendmsg(fd, &message, MSG_NOSIGNAL), 0);
              }),
              -EPROTO);
  }
  write_end.Reset();
  struct pollfd pfd = {read_end.get(), POLLIN, 0};
  EXPECT_EQ(poll(&pfd, 1, 10000), 1) << "no copy of the write end is left";
}

}  // namespace
}  // namespace snapbak
