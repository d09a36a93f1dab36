// SPDX-License-Identifier: MIT
// Puts a copy session together: memory, pending bits, threads; and takes it
// apart. What the threads do is in event_pump, copier, sweep and spiller.
#include "copy_session.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>
#include <new>
#include <system_error>
#include <thread>

#include "claim.h"
#include "copier.h"
#include "copy_state.h"
#include "event_pump.h"
#include "spiller.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace snapbak {

class CopySession::Impl {
 public:
  Impl(Driver* driver, SharedMemory* memory, LowerView lower, Target* target, Tier2Set* tiers,
       ChecksumFile* checksums, const CopyOptions& options, std::function<void(const Notice&)> notify)
      : state_(driver, memory, std::move(lower), target, tiers, checksums, options, std::move(notify)) {}

  int SetClone(std::shared_ptr<Clone> clone);
  int Prepare(const std::vector<Extent>& listed);
  int Start(snapbak_start* start);
  GroupStart::End StartTogether(GroupStart* group, size_t number, snapbak_start* start);
  void Started();
  CopyStats Stats() const;
  void Stop();
  void ResizeTier2(uint32_t tier, uint64_t bytes, Tier2::Resized done);
  int Unlist(const std::vector<Extent>& extents, std::vector<Extent>* taken);
  int OpenView(std::shared_ptr<Target> target, std::unique_ptr<PointInTimeView>* view);

  CopyState state_;

 private:
  bool OptionsAreValid() const;
  int AllocateBuffers();
  int MarkPending(const std::vector<Extent>& listed);
  uint32_t DriverState() const { return snapbak_load_acquire(&state_.memory->header()->state); }
  void StartThreads();
  template <typename Body>
  void StartThread(const std::string& name, Body body);

  std::vector<AlignedBuffer> buffers_;
  std::vector<std::unique_ptr<Copier>> copiers_;
  std::unique_ptr<EventPump> pump_;
  std::unique_ptr<Spiller> spiller_;
  std::vector<std::thread> threads_;
  // apart from the buffers, for Stats() at any time
  std::atomic<uint64_t> buffer_bytes_{0};
  std::atomic<bool> memory_locked_{false};
};

int CopySession::Impl::SetClone(std::shared_ptr<Clone> clone) {
  const uint64_t size = state_.memory->geometry().origin_size;
  const int error = clone->Attach(size, state_.block_size, state_.view_gate);
  if (error == 0) state_.clone = std::move(clone);
  return error;
}

int CopySession::Impl::Prepare(const std::vector<Extent>& listed) {
  if (!OptionsAreValid() || !threads_.empty() || state_.stop.raised()) return -EINVAL;
  int error = state_.stop.Open();
  if (error != 0) return error;
  try {
    error = AllocateBuffers();
    if (error != 0) return error;
    error = MarkPending(listed);
    if (error != 0) return error;
    StartThreads();
    return 0;
  } catch (const std::system_error& e) {
    error = e.code().value() > 0 ? -e.code().value() : -EAGAIN;
  } catch (const std::bad_alloc&) {
    error = -ENOMEM;
  }
  Stop();
  return error;
}

bool CopySession::Impl::OptionsAreValid() const {
  const uint32_t sector = state_.lower.sector_size;
  return state_.options.copy_threads >= 1 && state_.options.copy_threads <= 16 &&
         state_.options.read_bytes <= 1u << 30 && (sector & (sector - 1)) == 0 &&
         sector <= state_.block_size && state_.options.drain_to >= state_.options.watermark_low &&
         DriverState() == SNAPBAK_STATE_READY;
}

int CopySession::Impl::AllocateBuffers() {
  buffers_.resize(state_.options.copy_threads);
  bool locked = state_.options.lock_memory && state_.memory->locked();
  for (AlignedBuffer& buffer : buffers_) {
    const int error = buffer.Allocate(state_.max_run_blocks() * state_.block_size);
    if (error != 0) return error;
    buffer_bytes_ += buffer.size();
    locked = locked && buffer.Lock();
    copiers_.push_back(std::make_unique<Copier>(&state_, &buffer));
  }
  const int error = state_.fates->Allocate(state_.nr_blocks);
  if (error != 0) return error;
  memory_locked_ = locked;
  pump_ = std::make_unique<EventPump>(&state_);
  if (state_.tiers != nullptr && state_.tiers->size() > 0) spiller_ = std::make_unique<Spiller>(&state_);
  return 0;
}

int CopySession::Impl::MarkPending(const std::vector<Extent>& listed) {
  __u64* bitmap = state_.memory->bitmap();
  for (const Extent& extent : listed) {
    const BlockRun run = BlocksOf(extent, state_.block_size, state_.nr_blocks);
    snapbak_bitmap_set_range(bitmap, run.first, run.count);
  }
  state_.counters.listed = snapbak_bitmap_count(bitmap, 0, state_.nr_blocks);
  if (state_.counters.listed == state_.nr_blocks) return 0;
  const int error = state_.fates->AllocateAbsent();
  if (error != 0) return error;
  for (uint64_t at = 0; at < state_.nr_blocks;) {
    const uint64_t first = snapbak_bitmap_next_clear(bitmap, at, state_.nr_blocks);
    at = snapbak_bitmap_next_set(bitmap, first, state_.nr_blocks);
    if (at == first) continue;
    state_.fates->SetUnlisted(first, at - first);
    if (state_.clone != nullptr) state_.clone->Unlisted(first, at - first);
  }
  return 0;
}

void CopySession::Impl::StartThreads() {
  threads_.reserve(copiers_.size() + 2);
  for (size_t i = 0; i < copiers_.size(); i++) {
    StartThread("snapbak-copy-" + std::to_string(i), [copier = copiers_[i].get()] { copier->Run(); });
  }
  if (spiller_ != nullptr) StartThread("snapbak-spill", [this] { spiller_->Run(); });
  StartThread("snapbak-pump", [this] { pump_->Run(); });
}

template <typename Body>
void CopySession::Impl::StartThread(const std::string& name, Body body) {
  threads_.emplace_back([this, name, body] {
    (void)pthread_setname_np(pthread_self(), name.c_str());
    // Memory that these threads need must not be reclaimed through writes that we hold. Takes a
    // capability; without it the preallocation has to do.
    (void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    try {
      body();
    } catch (const std::exception&) {  // out of memory: nothing else throws in there
      state_.FailTarget(-ENOMEM);
    }
  });
}

int CopySession::Impl::Start(snapbak_start* start) {
  const int error = state_.driver->Start(start);
  if (error == 0) Started();
  return error;
}

GroupStart::End CopySession::Impl::StartTogether(GroupStart* group, size_t number, snapbak_start* start) {
  const GroupStart::End end = group->Run(number, state_.driver, state_.lower.fd.get(), start);
  if (end.error == 0) Started();
  return end;
}

void CopySession::Impl::Started() {
  state_.jobs.SetArmed();
  if (state_.counters.listed == 0) state_.notifier.Send(NoticeKind::kComplete);
}

CopyStats CopySession::Impl::Stats() const {
  const snapbak_shm* header = state_.memory->header();
  const CopyCounters& c = state_.counters;
  CopyStats s{};
  s.listed_blocks = c.listed;
  s.done_blocks = c.done;
  s.invalid_blocks = c.invalid;
  s.safe_blocks = c.safe;
  s.swept_blocks = c.swept;
  s.captured_blocks = c.captured;
  s.wanted_blocks = c.wanted;
  s.zero_blocks = c.zero;
  s.dropped_bytes = c.dropped_bytes;
  s.read_bytes = c.read_bytes;
  s.written_bytes = c.written_bytes;
  s.spilled_blocks = c.spilled;
  s.queued_work_bytes = state_.jobs.queued_work_bytes();
  s.slots_total = state_.memory->geometry().nr_slots;
  s.slots_used = state_.jobs.slots_used();
  s.buffer_bytes = buffer_bytes_ + state_.jobs.memory_bytes() + state_.fates->memory_bytes();
  if (state_.clone != nullptr) s.buffer_bytes += state_.clone->memory_bytes();
  if (state_.tiers != nullptr) {
    s.tier2_total = state_.tiers->total();
    s.tier2_used = state_.tiers->used();
    s.buffer_bytes += state_.tiers->memory_bytes();
    for (uint32_t i = 0; i < state_.tiers->size(); i++) {
      const Tier2& tier = state_.tiers->at(i);
      s.tiers.push_back({tier.total(), tier.used(), tier.lost()});
    }
  }
  s.state = snapbak_load_acquire(&header->state);
  s.reason = snapbak_load_relaxed(&header->reason);
  for (int i = 0; i < SNAPBAK_NR_COUNTERS; i++) s.counters[i] = snapbak_load_relaxed(&header->counters[i]);
  for (int h = 0; h < SNAPBAK_NR_HISTOGRAMS; h++) {
    for (int i = 0; i < SNAPBAK_HISTOGRAM_BUCKETS; i++) {
      s.histograms[h][i] = snapbak_load_relaxed(&header->histograms[h][i]);
    }
  }
  s.start_realtime_ns = snapbak_load_relaxed(&header->start_realtime_ns);
  s.arm_ns = snapbak_load_relaxed(&header->arm_ns);
  s.freeze_ns = snapbak_load_relaxed(&header->freeze_ns);
  s.memory_locked = memory_locked_;
  return s;
}

void CopySession::Impl::Stop() {
  state_.stop.Raise();
  state_.jobs.Stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  // A reader of a block that nobody settles any more was woken by jobs.Stop(): none stays inside.
  state_.view_gate->Shut(DriverState() == SNAPBAK_STATE_FINISHED);
  if (state_.tiers != nullptr) state_.tiers->Close();
}

void CopySession::Impl::ResizeTier2(uint32_t tier, uint64_t bytes, Tier2::Resized done) {
  const uint64_t places = bytes / state_.block_size;
  if (state_.tiers == nullptr || tier >= state_.tiers->size() ||
      places > std::numeric_limits<uint32_t>::max()) {
    done(-EINVAL);
    return;
  }
  // The end first: whoever puts a block into the queue after TierChanged() sees it.
  state_.tiers->at(tier).Resize(static_cast<uint32_t>(places), std::move(done));
  state_.jobs.TierChanged(tier);
}

// The claim first: a block that a writer captures meanwhile stays listed. A reader that finds the bit clear
// before the block is settled waits for that.
int CopySession::Impl::Unlist(const std::vector<Extent>& extents, std::vector<Extent>* taken) {
  if (DriverState() != SNAPBAK_STATE_ARMED) return -EINVAL;
  const int error = state_.fates->AllocateAbsent();
  if (error != 0) return error;
  const uint64_t size = state_.memory->geometry().origin_size;
  std::vector<BlockRun> ours;
  for (const Extent& extent : extents) {
    const BlockRun inside = BlocksInside(extent, state_.block_size, size);
    if (inside.count == 0) continue;
    ours.clear();
    const uint64_t claimed = ClaimPending(state_.memory->bitmap(), inside, &ours);
    state_.KickIfWaiting();
    for (const BlockRun& run : ours) {
      state_.fates->SetUnlisted(run.first, run.count);
      if (state_.clone != nullptr) state_.clone->Unlisted(run.first, run.count);
      taken->push_back({run.first * state_.block_size, state_.BytesOf(run.first, run.count)});
    }
    state_.Unlisted(claimed);
  }
  state_.jobs.WakeReadersIfAny();
  return 0;
}

int CopySession::Impl::OpenView(std::shared_ptr<Target> target, std::unique_ptr<PointInTimeView>* view) {
  if (!target->readable()) return -EOPNOTSUPP;
  if (DriverState() < SNAPBAK_STATE_ARMED) return -EINVAL;
  if (DriverState() == SNAPBAK_STATE_BROKEN) return -ESHUTDOWN;
  *view = std::make_unique<PointInTimeView>(state_, std::move(target));
  return 0;
}

CopySession::CopySession(Driver* driver, SharedMemory* memory, LowerView lower, Target* target,
                         Tier2Set* tiers, ChecksumFile* checksums, const CopyOptions& options,
                         std::function<void(const Notice&)> notify)
    : impl_(std::make_unique<Impl>(driver, memory, std::move(lower), target, tiers, checksums, options,
                                   std::move(notify))) {}

CopySession::~CopySession() { impl_->Stop(); }

int CopySession::SetClone(std::shared_ptr<Clone> clone) { return impl_->SetClone(std::move(clone)); }
int CopySession::Prepare(const std::vector<Extent>& listed) { return impl_->Prepare(listed); }
int CopySession::Start(snapbak_start* start) { return impl_->Start(start); }
GroupStart::End CopySession::StartTogether(GroupStart* group, size_t number, snapbak_start* start) {
  return impl_->StartTogether(group, number, start);
}
std::vector<Extent> CopySession::TakeHints() { return impl_->state_.hints.Take(); }
HeatPicture CopySession::Heat() const {
  const SharedMemory& memory = *impl_->state_.memory;
  const __u32* area = memory.heat();
  HeatPicture picture;
  if (area == nullptr) return picture;
  picture.now = snapbak_load_acquire(&memory.header()->heat_now);
  if (picture.now == 0) return picture;
  picture.region_size = 1ull << memory.geometry().heat_shift;
  picture.ticks.resize(memory.geometry().nr_heat);
  for (size_t i = 0; i < picture.ticks.size(); i++) picture.ticks[i] = snapbak_load_relaxed(&area[i]);
  return picture;
}
uint64_t CopySession::NextPending(uint64_t first, uint64_t end) const {
  end = std::min(end, impl_->state_.nr_blocks);
  return first < end ? snapbak_bitmap_next_set(impl_->state_.memory->bitmap(), first, end) : end;
}
uint32_t CopySession::block_size() const { return impl_->state_.block_size; }
uint64_t CopySession::PushWork(const std::vector<Extent>& work, bool priority) {
  return impl_->state_.jobs.PushWork(work, priority);
}
void CopySession::SetPaused(bool paused) { impl_->state_.jobs.SetPaused(paused); }
void CopySession::SetThrottle(const snapbak_throttle& throttle) { impl_->state_.SetThrottle(throttle); }
void CopySession::ResizeTier2(uint32_t tier, uint64_t bytes, Tier2::Resized done) {
  impl_->ResizeTier2(tier, bytes, std::move(done));
}
int CopySession::Unlist(const std::vector<Extent>& extents, std::vector<Extent>* taken) {
  return impl_->Unlist(extents, taken);
}
int CopySession::OpenView(std::shared_ptr<Target> target, std::unique_ptr<PointInTimeView>* view) {
  return impl_->OpenView(std::move(target), view);
}
CopyStats CopySession::Stats() const { return impl_->Stats(); }
void CopySession::Stop() { impl_->Stop(); }

}  // namespace snapbak
