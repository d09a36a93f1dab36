// SPDX-License-Identifier: MIT
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include <algorithm>
#include <chrono>

#include "../../kernel-module/core/snapbak_hints.h"
#include "wake.h"

namespace snapbak {

namespace {

constexpr char kVersion[] = "0.1.0";
constexpr uint64_t kMaxHoldMs = 86'400'000;
constexpr uint64_t kMaxStartMs = 600'000;
constexpr Capture::Clock::time_point kNotTimed = Capture::Clock::time_point::max();

uint64_t Now(clockid_t clock) {
  struct timespec ts;
  clock_gettime(clock, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(ts.tv_nsec);
}

template <size_t N>
bool AllZero(const __u64 (&reserved)[N]) {
  return std::all_of(std::begin(reserved), std::end(reserved), [](uint64_t v) { return v == 0; });
}

template <size_t N>
void CopyName(__u8 (&to)[N], const std::string& from) {
  memset(to, 0, N);
  // The end of a long path says more than its beginning.
  const size_t skip = from.size() >= N ? from.size() - (N - 1) : 0;
  memcpy(to, from.data() + skip, from.size() - skip);
}

int Duplicate(int fd, UniqueFd* out) {
  out->Reset(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  return out->valid() ? 0 : -errno;
}

}  // namespace

// One session. Its owner, state and pointers are guarded by control_mutex_.
struct Engine::Session {
  uint64_t owner = 0;
  snapbak_state state = SNAPBAK_STATE_NEW;
  SharedMemory memory;
  UniqueFd wake;  // our end
  Capture::Policy policy;
  uint32_t hints = 0;                // written, ever
  std::unique_ptr<Capture> capture;  // from SETUP on
  // Of request_mutex_'s holder: writes were stopped by STOP_WRITES, and when that
  // began, ns of CLOCK_MONOTONIC. The gate knows whether they still are.
  bool stopped = false;
  uint64_t shut_at = 0;
};

int Engine::Open(const std::string& path, const EngineOptions& options, std::unique_ptr<Engine>* out) {
  LowerDevice lower;
  const int ret = LowerDevice::Open(path, options.read_only, &lower, options.lock_patience);
  if (ret != 0) return ret;
  out->reset(new Engine(std::move(lower), options));
  return 0;
}

Engine::Engine(LowerDevice lower, const EngineOptions& options)
    : lower_(std::move(lower)), options_(options), heat_(lower_.size()) {}

Engine::~Engine() { Close(); }

void Engine::Close() {
  {
    std::lock_guard<std::mutex> lock(control_mutex_);
    if (session_ && session_->capture && session_->state < SNAPBAK_STATE_FINISHED) {
      session_->capture->Break(SNAPBAK_REASON_ORIGIN_GONE, -ENODEV);
    }
    LetWritesGo();
  }
  std::lock_guard<std::mutex> request(request_mutex_);
  Disarm();
  lower_.Unlock();
}

// --- the data path --------------------------------------------------------

int Engine::CheckRange(uint64_t offset, uint64_t length) const {
  return offset > size() || length > size() - offset ? -EINVAL : 0;
}

int Engine::Read(void* data, uint32_t length, uint64_t offset) {
  int ret = CheckRange(offset, length);
  if (ret != 0 || length == 0) return ret;
  const Capture::Clock::time_point arrival = Arrival();
  ret = lower_.Read(data, length, offset);
  if (arrival == kNotTimed) return ret;
  // Inside the gate for the count alone, which keeps the session's memory there:
  // no read waits for an arming, and no arming for a read.
  WriteGate::Ticket ticket(&gate_, std::try_to_lock);
  if (ticket.inside()) CountRequest(armed_.load(std::memory_order_acquire), arrival);
  return ret;
}

// When a request that is to be timed arrived; without a session no clock is read.
Capture::Clock::time_point Engine::Arrival() const {
  return armed_.load(std::memory_order_relaxed) == nullptr ? kNotTimed : Capture::Clock::now();
}

// Inside the gate: the request has ended.
void Engine::CountRequest(Capture* capture, Capture::Clock::time_point arrival) {
  if (capture != nullptr && arrival != kNotTimed) capture->CountRequest(arrival);
}

int Engine::Write(const void* data, uint32_t length, uint64_t offset, bool fua) {
  if (options_.read_only) return -EROFS;
  int ret = CheckRange(offset, length);
  if (ret != 0 || length == 0) return ret;
  heat_.Touch(offset, length);
  const Capture::Clock::time_point arrival = Arrival();
  WriteGate::Ticket ticket(&gate_);
  Capture* capture = armed_.load(std::memory_order_acquire);
  if (capture != nullptr) capture->MakeSafe(offset, length);
  ret = lower_.Write(data, length, offset, fua);
  CountRequest(capture, arrival);
  return ret;
}

int Engine::WriteZeroes(uint64_t offset, uint64_t length, const ZeroOptions& options) {
  if (options_.read_only) return -EROFS;
  int ret = CheckRange(offset, length);
  if (ret != 0 || length == 0) return ret;
  heat_.Touch(offset, length);
  const Capture::Clock::time_point arrival = Arrival();
  WriteGate::Ticket ticket(&gate_);
  Capture* capture = armed_.load(std::memory_order_acquire);
  if (capture != nullptr) capture->MakeSafe(offset, length);
  ret = lower_.WriteZeroes(offset, length, options.may_trim, options.fast);
  if (ret == 0 && options.fua) ret = lower_.Flush();
  CountRequest(capture, arrival);
  return ret;
}

int Engine::Discard(uint64_t offset, uint64_t length, bool fua) {
  if (options_.read_only) return -EROFS;
  int ret = CheckRange(offset, length);
  if (ret != 0 || length == 0) return ret;
  const Capture::Clock::time_point arrival = Arrival();
  WriteGate::Ticket ticket(&gate_);
  Capture* capture = armed_.load(std::memory_order_acquire);
  if (capture != nullptr && !capture->broken()) {
    ret = capture->ForDiscardable(offset, length,
                                  [this](uint64_t at, uint64_t bytes) { return lower_.Discard(at, bytes); });
  } else {
    ret = lower_.Discard(offset, length);
  }
  if (ret == 0 && fua) ret = lower_.Flush();
  CountRequest(capture, arrival);
  return ret;
}

int Engine::Flush() { return options_.read_only ? 0 : lower_.Flush(); }

// --- control ----------------------------------------------------------------

int Engine::HandleQuery(snapbak_query* query) {
  if (query->size != sizeof *query || !AllZero(query->reserved)) return -EINVAL;
  query->abi_version = SNAPBAK_ABI_VERSION;
  query->driver = options_.driver;
  query->max_slots = SNAPBAK_MAX_SLOTS;
  query->min_block_shift = SNAPBAK_MIN_BLOCK_SHIFT;
  query->max_block_shift = SNAPBAK_MAX_BLOCK_SHIFT;
  query->features = SNAPBAK_F_DISCARD | SNAPBAK_F_WRITE_ZEROES | SNAPBAK_F_HOLD_POLICY | SNAPBAK_F_THROTTLE |
                    SNAPBAK_F_WATCHDOG | SNAPBAK_F_HISTOGRAMS | SNAPBAK_F_HINTS | SNAPBAK_F_STOP_WRITES |
                    SNAPBAK_F_HEAT;
  CopyName(query->version, kVersion);
  return 0;
}

// With control_mutex_ held.
int Engine::CheckOwner(uint64_t owner) const {
  if (!session_) return -ENOTCONN;
  return session_->owner == owner ? 0 : -EPERM;
}

// With request_mutex_ held, after a wait for it: has the session of `owner`, which
// broke meanwhile, given way to another's? That one must not be disarmed.
bool Engine::OwnerLeft(uint64_t owner) {
  std::lock_guard<std::mutex> lock(control_mutex_);
  return CheckOwner(owner) != 0;
}

int Engine::HandleOpen(uint64_t owner, snapbak_open* open, UniqueFd* lower) {
  if (open->size != sizeof *open || open->flags != 0 || open->dev != 0 || !AllZero(open->reserved)) {
    return -EINVAL;
  }
  std::lock_guard<std::mutex> request(request_mutex_);
  {
    std::lock_guard<std::mutex> lock(control_mutex_);
    if (session_ && session_->owner == owner) return -EINVAL;  // one session a descriptor
    if (session_ && StateOf(*session_) < SNAPBAK_STATE_FINISHED) return -EBUSY;
  }
  const int ret = lower_.OpenForSweep(lower);
  if (ret != 0) return ret;
  Disarm();  // a broken session whose owner still lives

  std::lock_guard<std::mutex> lock(control_mutex_);
  session_ = std::make_unique<Session>();
  session_->owner = owner;
  open->origin_size = size();
  open->sector_size = lower_.sector_size();
  open->origin_flags = lower_.is_block_device() ? SNAPBAK_O_BLOCK_DEVICE : 0;
  open->lower_dev = lower_.device();
  open->lower_inode = lower_.inode();
  open->lower_fsdev = lower_.file_system_device();
  open->lower_offset = 0;
  CopyName(open->origin_id, lower_.path());
  return 0;
}

int Engine::HandleSetup(uint64_t owner, snapbak_setup* setup, UniqueFd* memory_fd, UniqueFd* wake_fd) {
  if (setup->size != sizeof *setup || setup->on_full > SNAPBAK_ON_FULL_HOLD || setup->hold_timeout_ms == 0 ||
      setup->hold_timeout_ms > kMaxHoldMs || setup->stall_timeout_ms > kMaxHoldMs || setup->pad0 != 0 ||
      !AllZero(setup->reserved)) {
    return -EINVAL;
  }
  std::lock_guard<std::mutex> request(request_mutex_);
  {
    std::lock_guard<std::mutex> lock(control_mutex_);
    const int ret = CheckOwner(owner);
    if (ret != 0) return ret;
    if (session_->state != SNAPBAK_STATE_NEW) return -EINVAL;
  }
  // Nobody but request_mutex_'s holder replaces session_, so its parts can be
  // made without the lock that STATUS and KICK need.
  SharedMemory memory;
  int ret = SharedMemory::Create(size(), setup->block_shift, setup->nr_slots, setup->flags, options_.driver,
                                 &memory);
  if (ret != 0) return ret;
  UniqueFd wake;
  ret = MakeWakePair(&wake, wake_fd);
  if (ret == 0) ret = Duplicate(memory.fd(), memory_fd);
  if (ret != 0) return ret;

  std::lock_guard<std::mutex> lock(control_mutex_);
  session_->memory = std::move(memory);
  session_->wake = std::move(wake);
  session_->policy.on_full = setup->on_full;
  session_->policy.hold_timeout = std::chrono::milliseconds(setup->hold_timeout_ms);
  session_->policy.stall_timeout = std::chrono::milliseconds(setup->stall_timeout_ms);
  session_->capture =
      std::make_unique<Capture>(&lower_, &session_->memory, session_->wake.get(), session_->policy);
  session_->state = SNAPBAK_STATE_READY;
  snapbak_store_release(&session_->memory.header()->state, static_cast<__u32>(SNAPBAK_STATE_READY));
  setup->map_size = session_->memory.size();
  return 0;
}

int Engine::HandleStart(uint64_t owner, snapbak_start* start) {
  if (start->size != sizeof *start || start->timeout_ms == 0 || start->timeout_ms > kMaxStartMs ||
      !AllZero(start->reserved)) {
    return -EINVAL;
  }
  if (start->nr_others != 0 || start->others != 0) return -EOPNOTSUPP;
  std::lock_guard<std::mutex> request(request_mutex_);
  Capture* capture;
  snapbak_shm* header;
  {
    std::lock_guard<std::mutex> lock(control_mutex_);
    const int ret = CheckOwner(owner);
    if (ret != 0) return ret;
    if (session_->state != SNAPBAK_STATE_READY) return -EINVAL;
    capture = session_->capture.get();
    header = session_->memory.header();
  }
  // Nobody but request_mutex_'s holder replaces session_.
  const int ret = StandStill(session_.get(), start->timeout_ms);
  if (ret != 0) return ret;
  header->start_realtime_ns = Now(CLOCK_REALTIME);
  header->start_monotonic_ns = Now(CLOCK_MONOTONIC);
  armed_.store(capture, std::memory_order_release);
  const uint64_t arm_ns = Now(CLOCK_MONOTONIC) - session_->shut_at;
  header->arm_ns = arm_ns;
  gate_.Open();
  // No write waits for it; only request_mutex_'s holder replaces session_.
  heat_.Publish(&session_->memory);

  std::lock_guard<std::mutex> lock(control_mutex_);
  session_->state = SNAPBAK_STATE_ARMED;
  // Unless a write broke it since: a state never moves back.
  __u32 ready = SNAPBAK_STATE_READY;
  __atomic_compare_exchange_n(&header->state, &ready, static_cast<__u32>(SNAPBAK_STATE_ARMED), false,
                              __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  start->start_realtime_ns = header->start_realtime_ns;
  start->arm_ns = arm_ns;
  start->freeze_ns = 0;  // whoever wants file systems frozen does it around the start
  start->failed_dev = 0;
  return 0;
}

// With request_mutex_ held: no write is inside the gate, and none comes in before
// it is opened. By STOP_WRITES already, or now.
int Engine::StandStill(Session* session, uint64_t timeout_ms) {
  Capture* capture = session->capture.get();
  if (session->stopped) {
    session->stopped = false;
    if (gate_.KeepShut()) return 0;
    return capture->broken() ? -ECANCELED : -ETIMEDOUT;
  }
  // Dirty pages first, while writes still run.
  if (!options_.read_only) {
    const int ret = lower_.Flush();
    if (ret != 0) return ret;
  }
  session->shut_at = Now(CLOCK_MONOTONIC);
  return gate_.Shut(std::chrono::milliseconds(timeout_ms),
                    [capture] { return capture->broken(); });  // the owner died meanwhile
}

int Engine::HandleStopWrites(uint64_t owner, snapbak_stop_writes* stop) {
  if (stop->size != sizeof *stop || stop->flags != 0 || stop->timeout_ms == 0 ||
      stop->timeout_ms > kMaxStartMs || !AllZero(stop->reserved)) {
    return -EINVAL;
  }
  std::lock_guard<std::mutex> request(request_mutex_);
  Session* session;
  {
    std::lock_guard<std::mutex> lock(control_mutex_);
    const int ret = CheckOwner(owner);
    if (ret != 0) return ret;
    if (session_->state != SNAPBAK_STATE_READY) return -EINVAL;
    session = session_.get();
  }
  if (session->stopped) return -EINVAL;  // START says whether they still stand still
  session->shut_at = Now(CLOCK_MONOTONIC);
  Capture* capture = session->capture.get();
  // The owner may die until the gate is shut (`cancelled` sees it), or after (HandleGone opens it).
  const int ret = gate_.ShutUntil(WriteGate::Clock::now() + std::chrono::milliseconds(stop->timeout_ms),
                                  [capture] { return capture->broken(); });
  session->stopped = ret == 0;
  return ret;
}

int Engine::HandleFinish(uint64_t owner, snapbak_finish* finish) {
  if (finish->size != sizeof *finish || finish->flags != 0 || !AllZero(finish->reserved)) return -EINVAL;
  std::lock_guard<std::mutex> request(request_mutex_);
  Capture* capture;
  {
    std::lock_guard<std::mutex> lock(control_mutex_);
    const int ret = CheckOwner(owner);
    if (ret != 0) return ret;
    if (session_->state != SNAPBAK_STATE_ARMED) return -EINVAL;
    if (session_->capture->broken()) return -EPIPE;
    const snapbak_shm& geometry = session_->memory.geometry();
    if (snapbak_bitmap_next_set(session_->memory.bitmap(), 0, geometry.nr_blocks) != geometry.nr_blocks) {
      return -EBUSY;
    }
    capture = session_->capture.get();
  }
  // Nothing is pending, so no write needs to be held: those inside the gate only write.
  // And none must be again, whatever the library does to the bitmap meanwhile.
  capture->LetGo();
  Disarm();
  std::lock_guard<std::mutex> lock(control_mutex_);
  if (capture->broken()) return -EPIPE;
  session_->state = SNAPBAK_STATE_FINISHED;
  snapbak_store_release(&session_->memory.header()->state, static_cast<__u32>(SNAPBAK_STATE_FINISHED));
  return 0;
}

int Engine::HandleAbort(uint64_t owner, snapbak_abort* abort) {
  if (abort->size != sizeof *abort || !AllZero(abort->reserved) ||
      (abort->reason != SNAPBAK_REASON_ABORTED && abort->reason != SNAPBAK_REASON_STALLED)) {
    return -EINVAL;
  }
  {
    // Before any request under way is waited for: held writes go on now.
    std::lock_guard<std::mutex> lock(control_mutex_);
    const int ret = CheckOwner(owner);
    if (ret != 0) return ret;
    if (session_->state == SNAPBAK_STATE_FINISHED) return -EINVAL;
    if (session_->capture) {
      session_->capture->Break(abort->reason, 0);
    } else {
      session_->state = SNAPBAK_STATE_BROKEN;
    }
    LetWritesGo();
  }
  std::lock_guard<std::mutex> request(request_mutex_);
  if (OwnerLeft(owner)) return 0;
  Disarm();
  return 0;
}

int Engine::HandleStatus(snapbak_status* status) {
  if (status->size != sizeof *status || status->dev != 0 || !AllZero(status->reserved)) return -EINVAL;
  *status = snapbak_status{};
  status->size = sizeof *status;
  std::lock_guard<std::mutex> lock(control_mutex_);
  status->origin_size = size();
  CopyName(status->origin_id, lower_.path());
  if (!session_) return 0;
  status->state = StateOf(*session_);
  if (!session_->capture) return 0;
  const snapbak_shm* header = session_->memory.header();
  const snapbak_shm& geometry = session_->memory.geometry();
  status->reason = snapbak_load_relaxed(&header->reason);
  status->error = snapbak_load_relaxed(&header->error);
  if (session_->state >= SNAPBAK_STATE_ARMED) {
    status->start_realtime_ns = header->start_realtime_ns;
    status->arm_ns = header->arm_ns;
  }
  status->nr_blocks = geometry.nr_blocks;
  status->pending_blocks = snapbak_bitmap_count(session_->memory.bitmap(), 0, geometry.nr_blocks);
  status->block_shift = geometry.block_shift;
  status->nr_slots = geometry.nr_slots;
  for (uint32_t i = 0; i < SNAPBAK_NR_COUNTERS; ++i) {
    status->counters[i] = snapbak_load_relaxed(&header->counters[i]);
  }
  return 0;
}

// The lock makes hints come one after the other, and keeps the session there.
int Engine::HandleHint(const snapbak_hint* hint) {
  const snapbak_extent& extent = hint->extent;
  if (hint->size != sizeof *hint || hint->flags != 0 || hint->dev != 0 || !AllZero(hint->reserved) ||
      extent.length == 0) {
    return -EINVAL;
  }
  const int ret = CheckRange(extent.offset, extent.length);
  if (ret != 0) return ret;
  std::lock_guard<std::mutex> lock(control_mutex_);
  if (!session_ || StateOf(*session_) != SNAPBAK_STATE_ARMED) return -ENODATA;
  snapbak_shm* header = session_->memory.header();
  snapbak_hints_put(header, &session_->hints, &extent);
  __atomic_fetch_add(&header->counters[SNAPBAK_C_HINTS], 1, __ATOMIC_RELAXED);
  session_->capture->WakeLibrary();
  return 0;
}

void Engine::HandleGone(uint64_t owner) {
  std::lock_guard<std::mutex> lock(control_mutex_);
  if (CheckOwner(owner) != 0) return;
  if (session_->capture && session_->state < SNAPBAK_STATE_FINISHED) {
    session_->capture->Break(SNAPBAK_REASON_CLOSED, 0);
  }
  LetWritesGo();
}

void Engine::HandleClose(uint64_t owner) {
  HandleGone(owner);
  std::lock_guard<std::mutex> request(request_mutex_);
  if (OwnerLeft(owner)) return;
  Disarm();
  std::lock_guard<std::mutex> lock(control_mutex_);
  session_.reset();
}

void Engine::Kick() {
  std::lock_guard<std::mutex> lock(control_mutex_);
  if (session_ && session_->capture) session_->capture->Kick();
}

// With control_mutex_ held.
snapbak_state Engine::StateOf(const Session& session) const {
  return session.capture && session.capture->broken() ? SNAPBAK_STATE_BROKEN : session.state;
}

// With control_mutex_ held, so that it is this session's: after it broke, an arming
// under way ends, and writes that were stopped for a START to come go on. Never waits.
void Engine::LetWritesGo() {
  gate_.Poke();
  gate_.EndTime();
}

// With request_mutex_ held: takes the capture off the write path. Afterwards no
// write uses it. Waits for the writes inside the gate; none is held, because
// the session is broken or nothing is pending.
void Engine::Disarm() {
  if (armed_.load(std::memory_order_relaxed) == nullptr) return;
  gate_.Shut();
  armed_.store(nullptr, std::memory_order_release);
  gate_.Open();
}

}  // namespace snapbak
