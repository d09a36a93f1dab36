// SPDX-License-Identifier: MIT
// A library that breaks every rule, over a real control socket: requests of any
// shape in any state, rubbish in all words of the shared memory, flags of the
// descriptors it was given changed, connections dropped at any moment. It
// sometimes plays by the rules, so that it gets far.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>

#include "native/driver/shared_memory.h"
#include "native/driver/wire.h"

namespace snapbak {

// What became of the attacks: so that a run can say that it was one, and does not end before.
struct HostileCounts {
  std::atomic<uint64_t> requests{0}, sessions{0}, started{0}, finished{0}, captured{0}, hinted{0};
  std::atomic<uint64_t> scribbles[7] = {};  // by kind

  bool Enough() const {
    bool enough = started.load() > 0 && finished.load() > 0 && captured.load() > 0 && hinted.load() > 0;
    for (const auto& count : scribbles) enough = enough && count.load() > 0;
    return enough;
  }
};

class HostilePeer {
 public:
  HostilePeer(std::string socket_path, uint64_t seed, HostileCounts* counts)
      : path_(std::move(socket_path)), random_(seed), counts_(counts) {}

  // Attacks, one connection after the other, until `stop`. False: nobody listens any more.
  bool Attack(const std::atomic<bool>& stop);

  static constexpr uint64_t kLongestHoldMs = 60;

 private:
  // What is spoilt in a session. Most kinds leave the rest alone: a broken
  // session is nothing that could be attacked any further.
  enum Kind { kAnywhere, kBitmap, kFlags, kSlotTwice, kFreeOverflow, kTailAhead, kHints, kKinds };

  uint64_t Below(uint64_t n) { return random_() % n; }
  uint64_t Word();
  bool Connect();
  int Call(uint32_t cmd, void* body, UniqueFd (&fds)[kWireMaxFds]);
  void Requests();
  void Session();
  void Spoil(Kind kind);
  void Drain();
  void SpoilDescriptors();
  void Finish();

  const std::string path_;
  std::mt19937_64 random_;
  HostileCounts* const counts_;
  UniqueFd socket_;
  uint32_t sequence_ = 0;

  // Of the session under attack.
  SharedMemory memory_;
  UniqueFd wakes_, kicks_;
  snapbak_ring events_{}, free_{};
};

}  // namespace snapbak
