// SPDX-License-Identifier: MIT
// What a NativeSession owns, without Node-API: the driver, the shared memory,
// the target, the tiers and the copy, made and taken down in the right order.
// All methods run on the session's thread, but for those that say otherwise.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "../copy/copy_session.h"
#include "../copy/file_target.h"
#include "../driver/engine.h"
#include "js_target.h"
#include "main_queue.h"

namespace snapbak {

class SessionCore {
 public:
  // Where the driver is: an engine in this process, behind a control socket,
  // or the kernel, whose origin this block device is.
  struct Device {
    uint64_t number;
  };
  using Where = std::variant<std::shared_ptr<Engine>, std::string, Device>;

  explicit SessionCore(Where where) : where_(std::move(where)) {}
  ~SessionCore();

  struct Setup {
    uint32_t block_size = 0;
    uint32_t slots = 0;
    uint32_t on_full = SNAPBAK_ON_FULL_BREAK;
    uint64_t hold_timeout_ms = 0;
    uint64_t stall_timeout_ms = 0;
    bool heat = false;  // the driver has SNAPBAK_F_HEAT
    std::vector<Extent> listed;
    std::shared_ptr<Target> target;
    std::shared_ptr<JsTarget> js_target;  // `target` again, if it is one
    UniqueFd checksums;
    struct Tier {
      UniqueFd fd;
      bool direct = false;
      std::vector<Extent> areas;
    };
    std::vector<Tier> tiers;       // second tiers, in order of preference
    std::shared_ptr<Clone> clone;  // may be null
    CopyOptions options;
    std::function<void(const Notice&)> notify;
  };

  Outcome Open(snapbak_query* query, snapbak_open* open);
  Outcome Status(snapbak_status* status);
  // Hints to the origin's session, whoever owns it; needs no Open().
  Outcome Hint(const std::vector<Extent>& extents);
  Outcome Prepare(Setup setup);
  // After Open(): what Start() flushes besides, user and embedded drivers. With a memory of its own
  // for errors: whoever flushes it before takes none from Start(). Null: nothing.
  std::shared_ptr<UniqueFd> ToFlush() const { return to_flush_; }
  Outcome Start(uint64_t timeout_ms, snapbak_start* start);
  // Together with other sessions, each on its own thread and with a number of its own, see
  // GroupStart::Run(); after an error this one is aborted.
  Outcome StartTogether(GroupStart* group, size_t number, snapbak_start* start);
  Outcome Finish();
  // The target has a read(), or is a file. See CopySession::OpenView().
  Outcome OpenView(std::shared_ptr<PointInTimeView>* view);
  // Held writes go first, then the threads. Idempotent, and so is Close.
  void Abort();
  void Close();

  // Any thread. Views may go on over the target: whoever cancels that ends them.
  bool finished() const { return finished_; }
  // Any thread: calls `use` with the copy, if there is one, while it cannot go.
  bool WithCopy(const std::function<void(CopySession*)>& use) const;

 private:
  Outcome Connect();
  int FinishDriver();

  Where where_;
  std::unique_ptr<Driver> driver_;
  bool closed_ = false;
  bool opened_ = false;
  bool ended_ = false;  // finished or aborted
  std::atomic<bool> finished_{false};
  LowerView lower_;
  std::shared_ptr<UniqueFd> to_flush_;
  SharedMemory memory_;
  Setup setup_;
  std::unique_ptr<ChecksumFile> checksums_;
  std::unique_ptr<Tier2Set> tiers_;
  // Written by the session's thread under mutex_; others read it under mutex_.
  std::unique_ptr<CopySession> copy_;
  mutable std::mutex mutex_;
};

}  // namespace snapbak
