// SPDX-License-Identifier: MIT
// Notices to whoever runs the session.
#include "notifier.h"

namespace snapbak {
namespace {

constexpr uint32_t Bit(NoticeKind kind) { return 1u << static_cast<uint32_t>(kind); }

constexpr uint32_t kRepeatable = Bit(NoticeKind::kNeedWork) | Bit(NoticeKind::kInvalid) |
                                 Bit(NoticeKind::kTier2Lost) | Bit(NoticeKind::kHint);
constexpr uint32_t kDeniesComplete = Bit(NoticeKind::kTargetError) | Bit(NoticeKind::kTier2Data) |
                                     Bit(NoticeKind::kBroken) | Bit(NoticeKind::kDriverGone);

}  // namespace

void Notifier::Send(NoticeKind kind, uint64_t block, int error, uint32_t value) {
  std::lock_guard lock(mutex_);
  if ((Bit(kind) & ~kRepeatable & sent_) != 0) return;
  if (kind == NoticeKind::kComplete && (sent_ & kDeniesComplete) != 0) return;
  sent_ |= Bit(kind);
  notify_(Notice{kind, block, error, value});
}

}  // namespace snapbak
