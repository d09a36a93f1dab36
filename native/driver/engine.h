// SPDX-License-Identifier: MIT
// The user-space driver: an origin whose writes pass through the claim
// protocol. The nbdkit plugin and the addon host it alike.
//
// The path of a write: Engine::Write -> gate (arming shuts it) -> armed? no:
// lower device. Yes: Capture::MakeSafe for the blocks it touches, then the
// lower device. All I/O methods are thread-safe, block, and return 0 or a
// negative errno. Offsets and lengths may be of any alignment; beyond the end
// of the device: -EINVAL, without side effect.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "capture.h"
#include "heat_map.h"
#include "lower_device.h"
#include "shared_memory.h"
#include "write_gate.h"

namespace snapbak {

struct EngineOptions {
  uint32_t driver = SNAPBAK_DRIVER_EMBEDDED;  // or SNAPBAK_DRIVER_USER
  bool read_only = false;
  std::chrono::milliseconds lock_patience{0};  // see LowerDevice::Open
};

// What a write-zeroes request may do.
struct ZeroOptions {
  bool fua = false;
  bool may_trim = false;  // may leave a hole
  bool fast = false;      // -EOPNOTSUPP at once where it would be as slow as writing
};

class Engine {
 public:
  static int Open(const std::string& path, const EngineOptions& options, std::unique_ptr<Engine>* out);
  ~Engine();

  uint64_t size() const { return lower_.size(); }
  const LowerDevice& lower() const { return lower_; }
  LowerDevice& lower() { return lower_; }
  bool read_only() const { return options_.read_only; }

  // --- the data path
  int Read(void* data, uint32_t length, uint64_t offset);
  int Write(const void* data, uint32_t length, uint64_t offset, bool fua);
  int WriteZeroes(uint64_t offset, uint64_t length, const ZeroOptions& options);
  int Discard(uint64_t offset, uint64_t length, bool fua);
  int Flush();

  // --- control: the contract's requests. `owner` is any number but 0 that
  // names the control descriptor; a session obeys its owner only (-EPERM), and
  // requests out of order are refused (-EINVAL).
  int HandleQuery(snapbak_query* query);
  int HandleOpen(uint64_t owner, snapbak_open* open, UniqueFd* lower);
  // `memory_fd` and `wake_fd` become new descriptors for the library: the shared
  // memory, and where it is woken (wake.h).
  int HandleSetup(uint64_t owner, snapbak_setup* setup, UniqueFd* memory_fd, UniqueFd* wake_fd);
  int HandleStart(uint64_t owner, snapbak_start* start);
  int HandleStopWrites(uint64_t owner, snapbak_stop_writes* stop);
  int HandleFinish(uint64_t owner, snapbak_finish* finish);
  int HandleAbort(uint64_t owner, snapbak_abort* abort);
  int HandleStatus(snapbak_status* status);
  // From anybody, for the armed session, whoever owns it.
  int HandleHint(const snapbak_hint* hint);
  // The owner's descriptor was closed or its process died: breaks its session,
  // so that held writes and requests under way go on. Never waits.
  void HandleGone(uint64_t owner);
  // The same, and forgets the session; waits for requests under way. Idempotent.
  void HandleClose(uint64_t owner);
  void Kick();

  // The origin goes: breaks a session that runs, waits for writes inside.
  void Close();

 private:
  struct Session;

  Engine(LowerDevice lower, const EngineOptions& options);
  int CheckRange(uint64_t offset, uint64_t length) const;
  Capture::Clock::time_point Arrival() const;
  void CountRequest(Capture* capture, Capture::Clock::time_point arrival);
  int CheckOwner(uint64_t owner) const;
  bool OwnerLeft(uint64_t owner);
  snapbak_state StateOf(const Session& session) const;
  void Disarm();
  void LetWritesGo();
  int StandStill(Session* session, uint64_t timeout_ms);

  LowerDevice lower_;
  const EngineOptions options_;
  HeatMap heat_;
  WriteGate gate_;
  // The armed session's capture, or null. Written with the gate shut and
  // drained; read by writers inside the gate.
  std::atomic<Capture*> armed_{nullptr};

  // Lock order: request_mutex_, control_mutex_, then the capture's own or the gate's.
  // request_mutex_: one request that changes the session at a time; may be
  // held while the gate drains. control_mutex_: session_ and its state; held
  // briefly, so that STATUS, KICK and the news of a dead owner never wait.
  std::mutex request_mutex_;
  std::mutex control_mutex_;
  std::unique_ptr<Session> session_;
};

}  // namespace snapbak
