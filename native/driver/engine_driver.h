// SPDX-License-Identifier: MIT
// The library's view of an engine in the same process: direct calls.
#pragma once

#include <memory>

#include "driver.h"
#include "engine.h"

namespace snapbak {

class EngineDriver : public Driver {
 public:
  explicit EngineDriver(std::shared_ptr<Engine> engine);
  ~EngineDriver() override;

  int Query(snapbak_query* query) override;
  int Open(snapbak_open* open, UniqueFd* lower) override;
  int Setup(snapbak_setup* setup, SharedMemory* memory) override;
  int Start(snapbak_start* start) override;
  int StopWrites(snapbak_stop_writes* stop) override;
  int Finish(snapbak_finish* finish) override;
  int Abort(snapbak_abort* abort) override;
  int Status(snapbak_status* status) override;
  int Hint(snapbak_hint* hint) override;
  void Kick() override;
  int WaitEvent(int cancel_fd, int timeout_ms) override;

 private:
  std::shared_ptr<Engine> engine_;
  const uint64_t owner_;
  UniqueFd wake_fd_;
};

}  // namespace snapbak
