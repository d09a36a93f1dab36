// SPDX-License-Identifier: MIT
// The copy session against the real engine: writers, sweeps in random order,
// few slots, second tiers that grow, shrink and fail, blocks that are unlisted, readers of the point-in-time
// view, a clone that clients use meanwhile, aborts. After each round the backup is the start instant, and so
// was every byte that a reader saw, the clone is that but for what its clients wrote, the origin is the last
// writes, and no write was left held. A failure prints its seed; SNAPBAK_STRESS_SEED
// and SNAPBAK_STRESS_ROUNDS repeat or lengthen it.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <thread>

#include "copy-rig.h"
#include "native/copy/crc32c.h"
#include "native/driver/engine_driver.h"

namespace snapbak {
namespace {

constexpr int kWriters = 4;
constexpr int kReaders = 2;
constexpr int kClients = 3;
constexpr uint64_t kStripe = 1500;  // of a client of the clone, in some rounds: several in a block
constexpr uint8_t kJunk = 0xd7;     // what stood where the clone is made
constexpr uint64_t kMostTiers = 3;

uint64_t Setting(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 0);
}

// One origin, one session, writers that own a quarter of the origin each and
// remember what they wrote. The quarters meet inside blocks.
class Round {
 public:
  explicit Round(uint64_t seed) : random_(seed), seed_(seed) {
    block_shift_ = Pick(12, 16);
    const uint64_t blocks = Pick(20, 400);
    size_ = (blocks << block_shift_) - (Pick(0, 1) != 0 ? Pick(1, (1 << block_shift_) - 1) : 0);
    start_ = RandomBytes(size_, static_cast<uint32_t>(seed));
    for (uint64_t i = Pick(0, 5); i > 0; i--) {
      const uint64_t offset = Pick(0, size_ - 1);
      std::fill_n(&start_[offset], std::min(size_ - offset, Pick(1, size_ / 4)), 0);
    }
    now_ = start_;
  }

  void Run() {
    SCOPED_TRACE("SNAPBAK_STRESS_SEED=" + std::to_string(seed_));
    OpenOrigin();
    if (testing::Test::HasFatalFailure()) return;
    PrepareSession();
    if (testing::Test::HasFatalFailure()) return;

    // Only where no write came before it is the start instant known here; the others are there for
    // the arming under load.
    const bool start_known = Pick(0, 2) != 0;
    if (!start_known) StartWriters();
    snapbak_start start{};
    start.size = sizeof(start);
    start.timeout_ms = 60000;
    ASSERT_EQ(0, session_->Start(&start));
    if (start_known && Pick(0, 3) != 0) StartReaders();
    if (start_known && clone_ != nullptr) StartClients();
    if (start_known) StartWriters();
    if (Pick(0, 2) == 0) unlister_ = std::thread([this, seed = random_()] { Unlist(seed); });

    const bool abort = Pick(0, 3) == 0;
    if (abort) {
      AbortSomewhere();
    } else {
      Feed();
      ASSERT_EQ(NoticeKind::kComplete, log_.AwaitEither(NoticeKind::kComplete, NoticeKind::kBroken));
    }
    for (std::thread& writer : writers_) writer.join();
    StopResizer();
    if (unlister_.joinable()) unlister_.join();
    for (std::thread& client : clients_) client.join();  // of an aborted session, too: it sends them back
    if (!abort) {
      snapbak_finish finish{};
      finish.size = sizeof(finish);
      ASSERT_EQ(0, driver_->Finish(&finish));
    }
    session_->Stop();
    const CopyStats stats = session_->Stats();
    StopReaders(abort);
    if (clone_ != nullptr) CheckClone(abort, start_known);
    CheckOrigin();
    if (!abort && start_known) CheckBackup();
    CheckAccounts(stats, !abort);
  }

 private:
  struct Tier {
    std::unique_ptr<TestFile> file;
    std::vector<Extent> areas;
  };

  // One area, or several with gaps between them, in any order.
  std::vector<Extent> PickAreas(uint64_t block) {
    std::vector<Extent> areas;
    uint64_t end = Pick(0, 3) * 512;
    for (uint64_t i = Pick(1, 5); i > 0; i--) {
      areas.push_back({end, Pick(1, 12 * block)});
      end += areas.back().length + Pick(0, 3) * 512;
    }
    std::shuffle(areas.begin(), areas.end(), random_);
    return areas;
  }
  uint64_t Pick(uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random_);
  }

  void OpenOrigin() {
    const std::string path = "/proc/self/fd/" + std::to_string(file_.fd());
    ASSERT_EQ(static_cast<ssize_t>(size_), pwrite(file_.fd(), start_.data(), size_, 0));
    std::unique_ptr<Engine> engine;
    ASSERT_EQ(0, Engine::Open(path, EngineOptions{}, &engine));
    engine_ = std::move(engine);
    driver_ = std::make_unique<EngineDriver>(engine_);
  }

  void PrepareSession() {
    snapbak_open open{};
    open.size = sizeof(open);
    UniqueFd lower;
    ASSERT_EQ(0, driver_->Open(&open, &lower));
    snapbak_setup setup{};
    setup.size = sizeof(setup);
    setup.block_shift = static_cast<uint32_t>(block_shift_);
    setup.nr_slots = static_cast<uint32_t>(Pick(1, 12));
    setup.on_full = SNAPBAK_ON_FULL_HOLD;
    setup.hold_timeout_ms = 60000;
    setup.stall_timeout_ms = 60000;
    ASSERT_EQ(0, driver_->Setup(&setup, &memory_));

    target_ = std::make_unique<MemoryTarget>(size_);
    checksums_ = std::make_unique<ChecksumFile>(checksum_bytes_.Duplicate());
    const uint32_t block = 1u << block_shift_;
    std::vector<std::unique_ptr<Tier2>> tiers;
    for (uint64_t i = Pick(0, kMostTiers); i > 0; i--) {
      Tier tier{std::make_unique<TestFile>(0), PickAreas(block)};
      tiers.push_back(std::make_unique<Tier2>(tier.file->Duplicate(), false, tier.areas, block));
      // the parts that blocks can lie in: with one of them its end can be moved
      auto small = [block](const Extent& area) { return area.length < block; };
      tier.areas.erase(std::remove_if(tier.areas.begin(), tier.areas.end(), small), tier.areas.end());
      made_.push_back(std::move(tier));
    }
    tiers_ = std::make_unique<Tier2Set>(std::move(tiers));
    CopyOptions options;
    options.copy_threads = static_cast<uint32_t>(Pick(1, 3));
    options.read_bytes = static_cast<uint32_t>(Pick(1, 70) * block);
    options.watermark_low = static_cast<uint32_t>(Pick(0, setup.nr_slots));
    options.drain_to = static_cast<uint32_t>(Pick(options.watermark_low, setup.nr_slots));
    session_ =
        std::make_unique<CopySession>(driver_.get(), &memory_, LowerView{std::move(lower), open.sector_size},
                                      target_.get(), tiers_.get(), checksums_.get(), options, log_.Sink());
    listed_ = {{0, size_}};
    if (Pick(0, 1) != 0) {
      listed_.clear();
      for (uint64_t i = Pick(1, 6); i > 0; i--) listed_.push_back({Pick(0, size_ - 1), Pick(1, size_ / 3)});
    }
    if (Pick(0, 1) != 0) MakeClone();
    ASSERT_EQ(0, session_->Prepare(listed_));
    if (!made_.empty()) resizer_ = std::thread([this, seed = random_()] { Resize(seed); });
  }

  // Moves the ends of the tiers to and fro, and cuts off what was given back: whoever still read it would
  // find nothing. Makes some fail. A resize that lasts is overtaken by the next one.
  void Resize(uint64_t seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](uint64_t low, uint64_t high) {
      return std::uniform_int_distribution<uint64_t>(low, high)(random);
    };
    for (; !enough_; std::this_thread::sleep_for(std::chrono::microseconds(pick(0, 5000)))) {
      const auto number = static_cast<uint32_t>(pick(0, made_.size() - 1));
      const Tier& tier = made_[number];
      if (pick(0, 100) == 0) tier.file->RefuseWrites();
      const uint64_t bytes = pick(0, 20) << block_shift_;
      auto ended = std::make_shared<std::promise<int>>();
      resizes_.push_back(ended->get_future());
      session_->ResizeTier2(number, bytes, [ended](int error) { ended->set_value(error); });
      std::future<int>& future = resizes_.back();
      if (future.wait_for(std::chrono::microseconds(pick(0, 5000))) != std::future_status::ready) continue;
      const int error = future.get();
      resizes_.pop_back();
      if (error == 0) {
        ASSERT_EQ(0, ftruncate(tier.file->fd(), static_cast<off_t>(tier.areas[0].offset + bytes)));
      } else {
        ASSERT_TRUE(error == -EIO || error == -ECANCELED || (error == -EOPNOTSUPP && tier.areas.size() != 1));
      }
    }
  }

  void StopResizer() {
    enough_ = true;
    if (resizer_.joinable()) resizer_.join();
  }

  // Takes pieces out of the list, whatever is pending of them.
  void Unlist(uint64_t seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](uint64_t low, uint64_t high) {
      return std::uniform_int_distribution<uint64_t>(low, high)(random);
    };
    may_be_unlisted_ = true;
    for (uint64_t i = pick(1, 30); i > 0; i--) {
      std::vector<Extent> pieces;
      for (uint64_t n = pick(1, 3); n > 0; n--) pieces.push_back({pick(0, size_ - 1), pick(1, size_ / 8)});
      const int error = session_->Unlist(pieces, &unlisted_);
      ASSERT_TRUE(error == 0 || error == -EINVAL) << error;  // -EINVAL: it was aborted, or is complete
      std::this_thread::sleep_for(std::chrono::microseconds(pick(0, 500)));
    }
  }

  void MakeClone() {
    clone_bytes_.assign(size_, Pick(0, 1) != 0 ? 0 : kJunk);
    const bool fresh = clone_bytes_[0] == 0;
    ASSERT_EQ(static_cast<ssize_t>(size_), pwrite(clone_file_.fd(), clone_bytes_.data(), size_, 0));
    LowerDevice device;
    ASSERT_EQ(0, LowerDevice::Adopt(clone_file_.Duplicate(), "clone", false, &device));
    clone_ = std::make_shared<Clone>(std::move(device), size_, 1u << block_shift_, fresh,
                                     [](int error) { ADD_FAILURE() << "the clone was lost: " << error; });
    ASSERT_EQ(0, session_->SetClone(clone_));
  }

  void StartClients() {
    clone_bytes_ = start_;
    by_client_.resize(size_);
    stripe_ = Pick(0, 1) != 0 ? kStripe : 5u << block_shift_;  // with whole blocks in them
    for (int c = 0; c < kClients; c++) {
      clients_.emplace_back([this, c, listed = Listed(), seed = random_()] { Use(c, listed, seed); });
    }
  }

  // What nobody wrote is the start instant's, or where it is not in the list, what stood there before.
  bool IsClone(const uint8_t* data, uint64_t offset, uint64_t length, const std::vector<bool>& listed,
               bool exact) {
    if (std::memcmp(data, &clone_bytes_[offset], length) == 0) return true;
    for (uint64_t i = 0; i < length; i++) {
      const uint64_t at = offset + i;
      if (by_client_[at]) {
        if (data[i] != clone_bytes_[at]) return false;
        continue;
      }
      const bool is_listed = listed[at >> block_shift_];
      if (is_listed && data[i] == start_[at]) continue;
      if (is_listed && (exact || !may_be_unlisted_)) return false;
      // a block may have come before it was unlisted, for a client that asked
      if (data[i] != 0 && data[i] != kJunk && data[i] != start_[at]) return false;
    }
    return true;
  }

  // A client's own stripes; the only thread that changes them, here and on the clone.
  void Use(int client, const std::vector<bool>& listed, uint64_t seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](uint64_t low, uint64_t high) {
      return std::uniform_int_distribution<uint64_t>(low, high)(random);
    };
    std::vector<uint8_t> data;
    for (int i = 0; i < 60; i++) {
      const uint64_t begin = (pick(0, size_ / stripe_ / kClients) * kClients + client) * stripe_;
      if (begin >= size_) continue;
      const uint64_t from = begin + (pick(0, 2) == 0 ? 0 : pick(0, std::min(stripe_, size_ - begin) - 1));
      const uint64_t left = std::min(size_, begin + stripe_) - from;
      const uint64_t length = pick(0, 2) == 0 ? left : pick(1, left);
      data.resize(length);
      const int what = static_cast<int>(pick(0, 7));
      int error = 0;
      if (what < 4) {
        error = clone_->Read(from, data.data(), length);
        if (error == 0) {
          ASSERT_TRUE(IsClone(data.data(), from, length, listed, false))
              << "[" << from << ", " << from + length << ") is neither the start instant's nor the client's";
        }
      } else if (what == 4) {
        // discarded bytes may keep their value: read back what became of them
        error = clone_->Discard(from, length);
        if (error == 0) error = clone_->Flush();
        if (error == 0) error = clone_->Read(from, data.data(), length);
      } else if (what == 5) {
        std::fill_n(data.begin(), length, 0);
        error = clone_->WriteZeroes(from, length, pick(0, 9) == 0);
      } else {
        Fill(data.data(), length, random());
        error = clone_->Write(from, data.data(), length, pick(0, 9) == 0);
      }
      if (error != 0) {
        client_error_ = error;
        return;
      }
      if (what < 4) continue;
      std::copy(data.begin(), data.end(), &clone_bytes_[from]);
      std::fill_n(&by_client_[from], length, 1);
    }
  }

  void CheckClone(bool abort, bool start_known) {
    std::vector<uint8_t> all(size_);
    if (abort) {
      EXPECT_TRUE(client_error_ == 0 || client_error_ == -ESHUTDOWN) << client_error_;
      const int error = clone_->Read(0, all.data(), size_);
      EXPECT_TRUE(error == 0 || error == -ESHUTDOWN) << error;
      return;
    }
    EXPECT_EQ(0, client_error_);
    session_.reset();
    ASSERT_EQ(0, clone_->Finish());
    const CloneStats stats = clone_->Stats();
    EXPECT_EQ(stats.total, stats.here);
    EXPECT_EQ(0u, stats.bad);
    ASSERT_EQ(0, clone_->Read(0, all.data(), size_));
    EXPECT_TRUE(all == clone_file_.Read(0, size_));
    if (start_known) {
      EXPECT_TRUE(IsClone(all.data(), 0, size_, Listed(), true)) << "the clone is not whole";
    } else {
      const std::vector<bool> listed = Listed();
      const uint64_t block = 1ull << block_shift_;
      for (uint64_t b = 0; b < listed.size(); b++) {
        if (!listed[b]) continue;
        ASSERT_EQ(
            0, std::memcmp(&target_->bytes[b * block], &all[b * block], std::min(block, size_ - b * block)))
            << "block " << b;
      }
    }
    EXPECT_EQ(0, clone_->Close());
  }

  void StartReaders() {
    std::shared_ptr<Target> target(target_.get(), [](Target*) {});
    ASSERT_EQ(0, session_->OpenView(target, &view_));
    ASSERT_EQ(size_, view_->size());
    for (int r = 0; r < kReaders; r++) {
      readers_.emplace_back([this, listed = Listed(), seed = random_()] { Read(listed, seed); });
    }
  }

  // The start instant's bytes; of blocks that are not in the list, zeroes.
  bool IsInstant(const uint8_t* data, uint64_t offset, uint64_t length, const std::vector<bool>& listed,
                 bool exact) {
    const uint64_t block = 1ull << block_shift_;
    for (uint64_t at = offset; at < offset + length;) {
      const uint64_t n = std::min(offset + length, (at / block + 1) * block) - at;
      const uint8_t* got = data + (at - offset);
      auto zero = [&] { return std::all_of(got, got + n, [](uint8_t x) { return x == 0; }); };
      const bool is_listed = listed[at / block];
      const bool same = is_listed && std::memcmp(&start_[at], got, n) == 0;
      const bool may_be_zero = !is_listed || (may_be_unlisted_ && !exact);
      if (!same && !(may_be_zero && zero())) return false;
      at += n;
    }
    return true;
  }

  void Read(const std::vector<bool>& listed, uint64_t seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](uint64_t low, uint64_t high) {
      return std::uniform_int_distribution<uint64_t>(low, high)(random);
    };
    std::vector<uint8_t> data;
    while (!read_enough_) {
      const uint64_t offset = pick(0, size_ - 1);
      const uint64_t length = std::min(size_ - offset, pick(1, (pick(0, 7) == 0 ? 40u : 2u) << block_shift_));
      data.assign(length, 0x5a);
      const int error = view_->Read(offset, data.data(), length);
      if (error != 0) {
        read_error_ = error;
        return;
      }
      ASSERT_TRUE(IsInstant(data.data(), offset, length, listed, false))
          << "[" << offset << ", " << offset + length << ") is not the start instant's";
      // others have to get on, too, where there are few processors
      std::this_thread::sleep_for(std::chrono::microseconds(pick(0, 100)));
    }
  }

  // After the end: a finished session leaves the view on the target, any other one takes it along.
  void StopReaders(bool abort) {
    read_enough_ = true;
    for (std::thread& reader : readers_) reader.join();
    if (view_ == nullptr) return;
    std::vector<uint8_t> all(size_);
    if (abort) {
      EXPECT_TRUE(read_error_ == 0 || read_error_ == -ESHUTDOWN) << read_error_;
      EXPECT_EQ(-ESHUTDOWN, view_->Read(0, all.data(), size_));
      return;
    }
    EXPECT_EQ(0, read_error_);
    session_.reset();
    EXPECT_EQ(0, view_->Read(0, all.data(), size_));
    EXPECT_TRUE(IsInstant(all.data(), 0, size_, Listed(), true)) << "the view is not the start instant";
    view_->Shutdown();
    EXPECT_EQ(-ESHUTDOWN, view_->Read(0, all.data(), 1));
  }

  void StartWriters() {
    for (int w = 0; w < kWriters; w++) {
      writers_.emplace_back([this, w, seed = random_()] { Write(w, seed); });
    }
  }

  static void Fill(uint8_t* data, uint64_t length, uint64_t word) {
    for (uint64_t at = 0; at < length; at++) data[at] = static_cast<uint8_t>((word >> at % 8 * 8) + at / 8);
  }

  // A writer's own bytes; the only thread that changes them, here and on the origin.
  void Write(int writer, uint64_t seed) {
    std::mt19937_64 random(seed);
    auto pick = [&](uint64_t low, uint64_t high) {
      return std::uniform_int_distribution<uint64_t>(low, high)(random);
    };
    const uint64_t begin = size_ * writer / kWriters, end = size_ * (writer + 1) / kWriters;
    for (int i = 0; i < 150; i++) {
      const uint64_t offset = pick(begin, end - 1);
      const uint64_t length = std::min(end - offset, pick(1, pick(0, 3) == 0 ? 5u << block_shift_ : 4096));
      uint8_t* mine = &now_[offset];
      int error = 0;
      switch (pick(0, 7)) {
        case 0: {
          ZeroOptions zero;
          zero.may_trim = pick(0, 1) != 0;
          std::fill_n(mine, length, 0);
          error = engine_->WriteZeroes(offset, length, zero);
          break;
        }
        case 1:
          // discarded bytes may keep their value: read back what became of them
          error = engine_->Discard(offset, length, false);
          if (error == 0) error = engine_->Read(mine, static_cast<uint32_t>(length), offset);
          break;
        default:
          Fill(mine, length, random());
          error = engine_->Write(mine, static_cast<uint32_t>(length), offset, pick(0, 20) == 0);
      }
      if (error != 0) failed_writes_++;
    }
  }

  // The whole origin in pieces, shuffled, some twice, some with priority.
  void Feed() {
    std::vector<Extent> pieces;
    for (uint64_t at = 0; at < size_;) {
      const uint64_t length = Pick(1, size_ / 4);
      pieces.push_back({at, length});
      at += length;
    }
    pieces.push_back(pieces.front());
    std::shuffle(pieces.begin(), pieces.end(), random_);
    for (const Extent& piece : pieces) {
      session_->SetPaused(Pick(0, 4) == 0);
      if (Pick(0, 4) == 0) session_->SetThrottle(PickThrottle());
      session_->PushWork({piece}, Pick(0, 2) == 0);
      (void)session_->Stats();
    }
    session_->SetPaused(false);
  }

  snapbak_throttle PickThrottle() {
    snapbak_throttle throttle{};
    throttle.begin = static_cast<uint32_t>(Pick(0, 6));
    throttle.full = static_cast<uint32_t>(Pick(6, 12));
    throttle.rate = Pick(1, 1u << 30);
    throttle.max_us = static_cast<uint32_t>(Pick(0, 300));
    return throttle;
  }

  void AbortSomewhere() {
    if (Pick(0, 1) != 0) Feed();
    const uint64_t until = Pick(0, 30);
    for (int i = 0; i < 20000 && session_->Stats().done_blocks < until; i++) std::this_thread::yield();
    if (Pick(0, 2) == 0) session_->Stop();  // the library's threads are gone while the session lives
    if (Pick(0, 1) != 0) {
      snapbak_abort abort{};
      abort.size = sizeof(abort);
      abort.reason = SNAPBAK_REASON_ABORTED;
      const int error = driver_->Abort(&abort);
      ASSERT_TRUE(error == 0) << error;
    } else {
      session_->Stop();
      driver_.reset();  // as if the process had died
    }
  }

  void CheckOrigin() {
    EXPECT_EQ(0, failed_writes_);
    EXPECT_TRUE(now_ == file_.Read(0, size_)) << "the origin is not what was written last";
  }

  // Without those that were unlisted, which are known once the unlister is done.
  std::vector<bool> Listed() {
    const uint64_t block = 1ull << block_shift_;
    std::vector<bool> listed((size_ + block - 1) / block);
    auto mark = [&](const Extent& extent, bool is_listed) {
      const uint64_t end = std::min(size_, extent.offset + extent.length);
      for (uint64_t b = extent.offset / block; b * block < end; b++) listed[b] = is_listed;
    };
    for (const Extent& extent : listed_) mark(extent, true);
    if (!unlister_.joinable()) {
      for (const Extent& extent : unlisted_) mark(extent, false);
    }
    return listed;
  }

  void CheckBackup() {
    const uint64_t block = 1ull << block_shift_;
    const std::vector<bool> listed = Listed();
    for (uint64_t b = 0; b < listed.size(); b++) {
      const uint64_t length = std::min(block, size_ - b * block);
      const uint8_t* got = &target_->bytes[b * block];
      if (!listed[b]) {
        ASSERT_TRUE(std::all_of(got, got + length, [](uint8_t x) { return x == MemoryTarget::kUntouched; }))
            << b;
        continue;
      }
      ASSERT_EQ(0, std::memcmp(&start_[b * block], got, length))
          << "block " << b << " is not the start instant's";
      uint32_t sum = 0;
      ASSERT_EQ(0, checksums_->Get(b, &sum, 1));
      ASSERT_EQ(Crc32c(0, got, length), sum) << "block " << b;
    }
  }

  void CheckAccounts(const CopyStats& stats, bool complete) {
    EXPECT_EQ(0u, stats.counters[SNAPBAK_C_HELD_NOW]) << "a write was left held";
    EXPECT_EQ(0u, stats.counters[SNAPBAK_C_PROTOCOL_ERRORS]);
    EXPECT_LE(stats.done_blocks, stats.listed_blocks);
    for (std::future<int>& resize : resizes_) {
      ASSERT_EQ(std::future_status::ready, resize.wait_for(std::chrono::seconds(0)))
          << "a resize never ended";
    }
    EXPECT_EQ(complete ? 1u : log_.Count(NoticeKind::kComplete), log_.Count(NoticeKind::kComplete));
    if (!complete) return;
    EXPECT_EQ(stats.listed_blocks, stats.done_blocks);
    EXPECT_EQ(stats.listed_blocks, stats.swept_blocks + stats.captured_blocks);
    EXPECT_EQ(0u, stats.slots_used);
    for (const TierStats& tier : stats.tiers) EXPECT_EQ(0u, tier.used);
  }

  std::mt19937_64 random_;
  const uint64_t seed_;
  uint64_t block_shift_, size_;
  std::vector<uint8_t> start_, now_;
  std::vector<Extent> listed_;
  TestFile file_{0}, checksum_bytes_{0};
  std::shared_ptr<Engine> engine_;
  std::unique_ptr<EngineDriver> driver_;
  SharedMemory memory_;
  NoticeLog log_;
  std::unique_ptr<MemoryTarget> target_;
  std::unique_ptr<ChecksumFile> checksums_;
  std::vector<Tier> made_;
  std::unique_ptr<Tier2Set> tiers_;
  std::unique_ptr<CopySession> session_;
  std::vector<std::thread> writers_;
  std::thread resizer_, unlister_;
  std::vector<std::thread> readers_;
  std::unique_ptr<PointInTimeView> view_;
  TestFile clone_file_{0};
  std::shared_ptr<Clone> clone_;
  std::vector<uint8_t> clone_bytes_;  // what its clients wrote, and by_client_ where; each its own stripes
  std::vector<uint8_t> by_client_;
  uint64_t stripe_ = 0;
  std::vector<std::thread> clients_;
  std::atomic<int> client_error_{0};
  std::vector<Extent> unlisted_;  // the unlister's, until it was joined
  std::atomic<bool> may_be_unlisted_{false};
  std::atomic<bool> read_enough_{false};
  std::atomic<int> read_error_{0};
  std::atomic<bool> enough_{false};
  std::vector<std::future<int>> resizes_;  // the resizer's, until it was joined
  std::atomic<int> failed_writes_{0};
};

TEST(CopyStress, TheBackupIsTheStartInstantAndTheOriginIsTheLastWrites) {
  const uint64_t first = Setting("SNAPBAK_STRESS_SEED", std::random_device{}());
#ifdef SNAPBAK_TSAN
  constexpr uint64_t kRounds = 20;  // each takes seven times as long
#else
  constexpr uint64_t kRounds = 40;
#endif
  const uint64_t rounds = Setting("SNAPBAK_STRESS_ROUNDS", kRounds);
  for (uint64_t round = 0; round < rounds && !testing::Test::HasFailure(); round++) {
    Round(first + round).Run();
  }
}

}  // namespace
}  // namespace snapbak
