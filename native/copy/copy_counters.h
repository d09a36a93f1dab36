// SPDX-License-Identifier: MIT
// What the threads of a session count; CopyStats is made of it.
#pragma once

#include <atomic>
#include <cstdint>

namespace snapbak {

struct CopyCounters {
  std::atomic<uint64_t> listed{0};   // fixed in Prepare; less by what is unlisted
  std::atomic<uint64_t> safe{0};     // claimed by the sweep, or their event came
  std::atomic<uint64_t> settled{0};  // done or invalid: equal to listed when complete
  std::atomic<uint64_t> done{0}, invalid{0}, zero{0};
  std::atomic<uint64_t> swept{0}, captured{0}, wanted{0}, spilled{0};
  std::atomic<uint64_t> dropped_bytes{0}, read_bytes{0}, written_bytes{0};
};

}  // namespace snapbak
