// SPDX-License-Identifier: MIT
#include "session_core.h"

#include <errno.h>
#include <fcntl.h>

#include <chrono>
#include <thread>
#include <utility>

#include "../driver/engine_driver.h"
#include "../driver/kernel_driver.h"
#include "../driver/remote_driver.h"

namespace snapbak {

namespace {

// The file of `fd` once more. Null where that is not permitted.
std::shared_ptr<UniqueFd> OpenAgain(int fd) {
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  auto again = std::make_shared<UniqueFd>(open(self.c_str(), O_RDONLY | O_CLOEXEC));
  return again->valid() ? again : nullptr;
}

}  // namespace

SessionCore::~SessionCore() { Close(); }

bool SessionCore::WithCopy(const std::function<void(CopySession*)>& use) const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!copy_) return false;
  use(copy_.get());
  return true;
}

Outcome SessionCore::Connect() {
  if (driver_) return {};
  if (closed_) return {-EBADF, "closed"};
  if (const auto* device = std::get_if<Device>(&where_)) {
    return {KernelDriver::Connect(device->number, &driver_), "module"};
  }
  if (const auto* socket = std::get_if<std::string>(&where_)) {
    return {RemoteDriver::Connect(*socket, &driver_), "connect"};
  }
  driver_ = std::make_unique<EngineDriver>(std::get<std::shared_ptr<Engine>>(where_));
  return {};
}

Outcome SessionCore::Open(snapbak_query* query, snapbak_open* open) {
  Outcome outcome = Connect();
  if (outcome.error != 0) return outcome;
  query->size = sizeof *query;
  outcome = {driver_->Query(query), "query"};
  if (outcome.error != 0) return outcome;
  if (query->abi_version != SNAPBAK_ABI_VERSION) return {-EPROTONOSUPPORT, "query"};
  open->size = sizeof *open;
  outcome = {driver_->Open(open, &lower_.fd), "open"};
  if (outcome.error != 0) return outcome;
  opened_ = true;
  lower_.sector_size = open->sector_size;
  lower_.offset = open->lower_offset;
  if (driver_->StartDescriptor() < 0) to_flush_ = OpenAgain(lower_.fd.get());
  return {};
}

Outcome SessionCore::Status(snapbak_status* status) {
  const Outcome outcome = Connect();
  if (outcome.error != 0) return outcome;
  status->size = sizeof *status;
  return {driver_->Status(status), "status"};
}

Outcome SessionCore::Hint(const std::vector<Extent>& extents) {
  const Outcome outcome = Connect();
  if (outcome.error != 0) return outcome;
  for (const Extent& extent : extents) {
    snapbak_hint hint{};
    hint.size = sizeof hint;
    hint.extent = {extent.offset, extent.length};
    const int error = driver_->Hint(&hint);
    if (error != 0) return {error, "hint"};
  }
  return {};
}

Outcome SessionCore::Prepare(Setup setup) {
  if (!opened_ || copy_) return {-EINVAL, "prepare"};
  snapbak_setup request{};
  request.size = sizeof request;
  request.block_shift = static_cast<uint32_t>(__builtin_ctz(setup.block_size));
  request.nr_slots = setup.slots;
  request.on_full = setup.on_full;
  request.hold_timeout_ms = setup.hold_timeout_ms;
  request.stall_timeout_ms = setup.stall_timeout_ms;
  request.flags = setup.heat ? SNAPBAK_SETUP_HEAT : 0;
  const int ret = driver_->Setup(&request, &memory_);
  if (ret != 0) return {ret, "setup"};
  setup_ = std::move(setup);
  checksums_ = std::make_unique<ChecksumFile>(std::move(setup_.checksums));
  std::vector<std::unique_ptr<Tier2>> tiers;
  for (Setup::Tier& tier : setup_.tiers) {
    tiers.push_back(std::make_unique<Tier2>(std::move(tier.fd), tier.direct, tier.areas, setup_.block_size));
  }
  tiers_ = std::make_unique<Tier2Set>(std::move(tiers));
  auto copy = std::make_unique<CopySession>(driver_.get(), &memory_, std::move(lower_), setup_.target.get(),
                                            tiers_.get(), checksums_.get(), setup_.options, setup_.notify);
  if (setup_.clone) {
    const int error = copy->SetClone(setup_.clone);
    if (error != 0) return {error, "clone"};
  }
  const Outcome outcome{copy->Prepare(setup_.listed), "buffers"};
  setup_.listed.clear();
  setup_.listed.shrink_to_fit();
  if (outcome.error != 0) return outcome;
  std::lock_guard<std::mutex> lock(mutex_);
  copy_ = std::move(copy);
  return {};
}

Outcome SessionCore::Start(uint64_t timeout_ms, snapbak_start* start) {
  if (!copy_) return {-EINVAL, "start"};
  start->size = sizeof *start;
  start->timeout_ms = timeout_ms;
  const int error = copy_->Start(start);
  return {error, "start", error == 0 ? 0 : start->failed_dev};
}

Outcome SessionCore::StartTogether(GroupStart* group, size_t number, snapbak_start* start) {
  if (!copy_ || ended_) {
    group->Withdraw();
    return {-EINVAL, "start"};
  }
  const GroupStart::End end = copy_->StartTogether(group, number, start);
  if (end.error != 0) Abort();  // not left to JavaScript: writes may stand still
  return {end.error, end.stage, end.error == 0 ? 0 : start->failed_dev};
}

// All is copied. A write that has just captured a block, or lost the race for one, may not have left the
// driver's account yet, whose answer is -EBUSY then; nothing can keep it there.
int SessionCore::FinishDriver() {
  constexpr int kTries = 2000;
  for (int tried = 1;; tried++) {
    snapbak_finish request{};
    request.size = sizeof request;
    const int error = driver_->Finish(&request);
    if (error != -EBUSY || tried == kTries) return error;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Outcome SessionCore::Finish() {
  if (!copy_ || ended_) return {-EINVAL, "finish"};
  Outcome outcome{setup_.target->Flush(), "target"};
  if (outcome.error == 0) outcome = {checksums_->Flush(), "checksums"};
  if (outcome.error != 0) return outcome;
  outcome = {FinishDriver(), "finish"};
  if (outcome.error != 0) return outcome;
  ended_ = true;
  finished_ = true;
  copy_->Stop();
  return {};
}

Outcome SessionCore::OpenView(std::shared_ptr<PointInTimeView>* view) {
  if (!copy_) return {-ESHUTDOWN, "view"};
  std::unique_ptr<PointInTimeView> made;
  const Outcome outcome{copy_->OpenView(setup_.target, &made), "view"};
  if (outcome.error == 0) *view = std::move(made);
  return outcome;
}

void SessionCore::Abort() {
  if (ended_) return;
  ended_ = true;
  if (driver_ && opened_) {
    snapbak_abort request{};
    request.size = sizeof request;
    request.reason = SNAPBAK_REASON_ABORTED;
    driver_->Abort(&request);  // a driver that is gone has let go already
  }
  if (setup_.js_target) setup_.js_target->Cancel();
  if (copy_) copy_->Stop();
}

void SessionCore::Close() {
  closed_ = true;
  if (opened_) Abort();
  std::unique_ptr<CopySession> copy;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    copy.swap(copy_);
  }
  copy.reset();
  setup_ = Setup{};
  tiers_.reset();
  checksums_.reset();
  lower_ = LowerView();
  to_flush_.reset();
  driver_.reset();
  where_ = std::string();
  memory_ = SharedMemory();
}

}  // namespace snapbak
