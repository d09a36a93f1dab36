// SPDX-License-Identifier: MIT
#include "hostile-peer.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <utility>

#include "kernel-module/core/snapbak_bitmap.h"
#include "kernel-module/core/snapbak_ring.h"

namespace snapbak {

namespace {

constexpr uint32_t kCommands[] = {
    SNAPBAK_IOC_QUERY,  SNAPBAK_IOC_OPEN,  SNAPBAK_IOC_SETUP,  SNAPBAK_IOC_START, SNAPBAK_IOC_KICK,
    SNAPBAK_IOC_FINISH, SNAPBAK_IOC_ABORT, SNAPBAK_IOC_STATUS, SNAPBAK_IOC_HINT,  SNAPBAK_IOC_STOP_WRITES};

constexpr size_t kPositions = offsetof(snapbak_shm, event_head);
constexpr size_t kHintRing = offsetof(snapbak_shm, hint_head);
constexpr size_t kBehindHintRing = offsetof(snapbak_shm, reserved3);
constexpr size_t kBehindPositions = offsetof(snapbak_shm, throttle_begin);

void Store(uint64_t* word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

}  // namespace

uint64_t HostilePeer::Word() {
  switch (Below(5)) {
    case 0:
      return 0;
    case 1:
      return ~0ull;
    case 2:
      return Below(300);
    default:
      return random_();
  }
}

bool HostilePeer::Connect() {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  socket_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // A driver that does not answer is a finding, too: the peer waits, and the test is past its time.
  const struct timeval patience = {20, 0};
  setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  sequence_ = 0;
  return connect(socket_.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) == 0;
}

// One request as the contract wants it, and its reply. The result, or -EIO where none came.
int HostilePeer::Call(uint32_t cmd, void* body, UniqueFd (&fds)[kWireMaxFds]) {
  uint8_t request[sizeof(WireRequestHeader) + sizeof(WireBody)];
  const size_t size = EncodeRequest(cmd, ++sequence_, body, request);
  if (send(socket_.get(), request, size, MSG_NOSIGNAL) != static_cast<ssize_t>(size)) return -EIO;
  uint8_t reply[kWireMaxReply];
  size_t have = 0, want = sizeof(WireReplyHeader), nr_fds = 0;
  while (have < want) {
    struct iovec iov = {reply + have, want - have};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kWireMaxFds)];
    struct msghdr message = {};
    message.msg_iov = &iov;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t n = recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (n <= 0) return -EIO;
    for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      for (size_t at = 0; CMSG_LEN(at) < c->cmsg_len; at += sizeof(int)) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + at, sizeof(int));
        UniqueFd owned(fd);
        if (nr_fds < kWireMaxFds) fds[nr_fds++] = std::move(owned);
      }
    }
    have += static_cast<size_t>(n);
    if (have < sizeof(WireReplyHeader)) continue;
    WireReplyHeader header;
    memcpy(&header, reply, sizeof(header));
    if (header.size > sizeof(WireBody)) return -EIO;
    want = sizeof(header) + header.size;
    if (have < want) continue;
    if (header.result == 0 && header.size > 0) memcpy(body, reply + sizeof(header), header.size);
    counts_->requests.fetch_add(1, std::memory_order_relaxed);
    return header.result;
  }
  return -EIO;
}

// Mostly nearly right; nobody waits for the answers.
void HostilePeer::Requests() {
  for (uint64_t n = 1 + Below(20); n > 0; --n) {
    const uint32_t cmd = kCommands[Below(std::size(kCommands))];
    WireBody body{};
    body.size = static_cast<uint32_t>(WirePayloadSize(cmd));
    if (cmd == SNAPBAK_IOC_SETUP) {
      body.setup.block_shift = static_cast<uint32_t>(10 + Below(13));
      body.setup.nr_slots = static_cast<uint32_t>(Below(9));
      body.setup.on_full = static_cast<uint32_t>(Below(3));
      body.setup.hold_timeout_ms = Below(kLongestHoldMs);
      body.setup.stall_timeout_ms = Below(3) * Below(kLongestHoldMs);
    }
    if (cmd == SNAPBAK_IOC_START) body.start.timeout_ms = Below(1000);
    if (cmd == SNAPBAK_IOC_STOP_WRITES) body.stop_writes.timeout_ms = Below(1000);
    if (cmd == SNAPBAK_IOC_HINT) body.hint.extent = {Below(1 << 18), Below(1 << 18)};
    if (cmd == SNAPBAK_IOC_ABORT) body.abort.reason = static_cast<uint32_t>(Below(8));
    if (Below(3) == 0) {
      uint64_t words[sizeof(body) / 8];
      memcpy(words, &body, sizeof(words));
      words[Below(std::size(words))] ^= random_() >> Below(64);
      memcpy(&body, words, sizeof(words));
    }
    // A session that may hold for ever, and memory without end, are the owner's right, not an attack.
    body.setup.on_full = cmd == SNAPBAK_IOC_SETUP && body.setup.on_full == SNAPBAK_ON_FULL_HOLD
                             ? static_cast<uint32_t>(SNAPBAK_ON_FULL_BREAK)
                             : body.setup.on_full;
    if (cmd == SNAPBAK_IOC_SETUP) {
      body.setup.nr_slots %= 64;
      if (body.setup.hold_timeout_ms > kLongestHoldMs) body.setup.hold_timeout_ms = 0;
    }
    uint8_t bytes[sizeof(WireRequestHeader) + sizeof(WireBody)];
    size_t size = EncodeRequest(cmd, ++sequence_, &body, bytes);
    if (Below(12) == 0) bytes[Below(size)] ^= static_cast<uint8_t>(1 + Below(255));
    if (Below(12) == 0) size = Below(size);
    if (send(socket_.get(), bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return;
    counts_->requests.fetch_add(1, std::memory_order_relaxed);
  }
  if (Below(2) == 0) std::this_thread::sleep_for(std::chrono::microseconds(Below(3000)));
}

void HostilePeer::Spoil(Kind kind) {
  auto* base = reinterpret_cast<uint64_t*>(memory_.header());
  const snapbak_shm& geometry = memory_.geometry();
  switch (kind) {
    case kAnywhere:  // every word of the header, the bitmap and the rings
      Store(base + Below(geometry.slots_off / 8), Word());
      break;
    case kBitmap:
      Store(base + (geometry.bitmap_off + Below(geometry.event_off - geometry.bitmap_off) / 8 * 8) / 8,
            Word());
      break;
    case kFlags: {  // geometry, state, sleep flags; throttle, heartbeat, counters; but no position
      const size_t at = Below(2) == 0 ? Below(kPositions) : kBehindPositions + Below(384);
      Store(base + at / 8, Word());
      break;
    }
    case kSlotTwice:
      snapbak_ring_put_slot(&free_, 0, static_cast<uint32_t>(Below(geometry.nr_slots)));
      snapbak_ring_put_slot(&free_, 1, snapbak_ring_get_slot(&free_, 0));
      snapbak_ring_publish(&free_, 2);
      break;
    case kFreeOverflow:
      snapbak_ring_publish(&free_, geometry.nr_free + static_cast<uint32_t>(Below(3)));
      break;
    case kTailAhead:
      snapbak_ring_release(&events_, 1 + static_cast<uint32_t>(Below(2) == 0 ? Below(4) : random_()));
      break;
    case kHints: {  // positions and entries; then the driver is to write there
      const size_t at = kHintRing + Below(kBehindHintRing - kHintRing);
      Store(base + at / 8, Word());
      snapbak_hint hint{};
      hint.size = sizeof(hint);
      hint.extent = {Below(4096), 1 + Below(4096)};
      UniqueFd none[kWireMaxFds];
      if (Call(SNAPBAK_IOC_HINT, &hint, none) == 0) counts_->hinted.fetch_add(1, std::memory_order_relaxed);
      break;
    }
    case kKinds:
      break;
  }
  counts_->scribbles[kind].fetch_add(1, std::memory_order_relaxed);
}

// By the rules: takes the events and gives their slots back, so that there is more to attack.
void HostilePeer::Drain() {
  for (int64_t ready = snapbak_ring_ready(&events_); ready > 0; --ready) {
    const snapbak_event event = snapbak_ring_get_event(&events_, 0);
    if (event.type == SNAPBAK_EVENT_CAPTURED) {
      counts_->captured.fetch_add(1, std::memory_order_relaxed);
      snapbak_ring_put_slot(&free_, 0, event.slot);
      snapbak_ring_publish(&free_, 1);
    }
    snapbak_ring_release(&events_, 1);
  }
}

// The descriptors are shared with the driver: so are the flags of their open files.
void HostilePeer::SpoilDescriptors() {
  for (const int fd : {wakes_.get(), kicks_.get()}) {
    fcntl(fd, F_SETFL, Below(2) == 0 ? 0 : O_NONBLOCK);
    if (Below(2) == 0) {
      const uint64_t most = ~1ull;
      while (send(fd, &most, sizeof(most), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {  // until it is full
      }
    } else if (Below(8) == 0) {
      shutdown(fd, SHUT_RDWR);
    }
  }
  const int memory = memory_.fd();
  const uint64_t size = memory_.size();
  static_cast<void>(!ftruncate(memory, static_cast<off_t>(Below(2) == 0 ? 0 : size * 2)));
  fallocate(memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(Below(size)),
            SNAPBAK_PAGE);
  fcntl(memory, F_ADD_SEALS, F_SEAL_WRITE);
}

// As if all were copied; then the bits come back, while FINISH is under way.
void HostilePeer::Finish() {
  const uint64_t blocks = memory_.geometry().nr_blocks;
  auto* bitmap = reinterpret_cast<uint64_t*>(memory_.bitmap());
  std::atomic<bool> done{false};
  std::thread again([&] {
    while (!done.load()) snapbak_bitmap_set_range(memory_.bitmap(), 0, blocks);
  });
  snapbak_finish finish{};
  int ret = -EBUSY;
  for (int i = 0; i < 50 && ret == -EBUSY; ++i) {
    for (uint64_t word = 0; word < snapbak_bitmap_words(blocks); ++word) Store(bitmap + word, 0);
    if (i >= 10) done.store(true);
    UniqueFd fds[kWireMaxFds];
    finish = {};
    finish.size = sizeof(finish);
    ret = Call(SNAPBAK_IOC_FINISH, &finish, fds);
  }
  done.store(true);
  again.join();
  if (ret == 0) counts_->finished.fetch_add(1, std::memory_order_relaxed);
  snapbak_bitmap_set_range(memory_.bitmap(), 0, blocks);
}

void HostilePeer::Session() {
  UniqueFd fds[kWireMaxFds];
  snapbak_open open{};
  open.size = sizeof(open);
  if (Call(SNAPBAK_IOC_OPEN, &open, fds) != 0) return;  // another attacker has it
  snapbak_setup setup{};
  setup.size = sizeof(setup);
  setup.block_shift = static_cast<uint32_t>(12 + Below(4));
  setup.nr_slots = static_cast<uint32_t>(1 + Below(16));
  // A hold without a limit ends with the connection, which lasts no longer than this.
  setup.on_full = static_cast<uint32_t>(Below(2));
  setup.hold_timeout_ms = 1 + Below(kLongestHoldMs);
  setup.stall_timeout_ms = Below(2) * (1 + Below(kLongestHoldMs));
  UniqueFd given[kWireMaxFds];
  if (Call(SNAPBAK_IOC_SETUP, &setup, given) != 0) return;
  if (SharedMemory::Adopt(std::move(given[0]), &memory_) != 0) return;
  wakes_ = std::move(given[1]);
  kicks_ = std::move(given[2]);
  events_ = memory_.EventRing();
  free_ = memory_.FreeRing();
  const uint64_t blocks = memory_.geometry().nr_blocks;
  snapbak_bitmap_set_range(memory_.bitmap(), 0, blocks);
  const auto kind = static_cast<Kind>(counts_->sessions.fetch_add(1) % kKinds);
  if (Below(8) == 0) Spoil(kind);
  snapbak_start start{};
  start.size = sizeof(start);
  start.timeout_ms = 2000;
  UniqueFd none[kWireMaxFds];
  if (Call(SNAPBAK_IOC_START, &start, none) == 0) counts_->started.fetch_add(1, std::memory_order_relaxed);
  if (Below(4) == 0) SpoilDescriptors();
  for (uint64_t n = 1 + Below(Below(2) == 0 ? 150 : 15); n > 0; --n) {
    Spoil(kind);
    // Blocks are captured again and again: that is what the driver has to bear.
    if (Below(4) == 0) snapbak_bitmap_set_range(memory_.bitmap(), 0, blocks);
    if (Below(2) == 0) Drain();
    if (Below(4) == 0) static_cast<void>(!send(kicks_.get(), "", 1, MSG_NOSIGNAL | MSG_DONTWAIT));
    std::this_thread::sleep_for(std::chrono::microseconds(Below(400)));
  }
  if (Below(3) == 0) Finish();
  if (Below(3) == 0) Requests();
}

bool HostilePeer::Attack(const std::atomic<bool>& stop) {
  while (!stop.load()) {
    if (!Connect()) return false;
    if (Below(3) != 0) {
      Session();
    } else {
      Requests();
    }
    // The memory goes last, sometimes: the driver does not know.
    if (Below(2) == 0) memory_ = SharedMemory();
    socket_.Reset();
    wakes_.Reset();
    kicks_.Reset();
    memory_ = SharedMemory();
  }
  return true;
}

}  // namespace snapbak
