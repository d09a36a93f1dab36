// SPDX-License-Identifier: MIT
// The second tiers of a container, in order of preference: a block goes to the
// first that has room and is not lost. One that fails is given up alone.
// Thread-safe, as each of them is; the list itself never changes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tier2.h"

namespace snapbak {

// Where in the second tier a block lies.
struct TierPlace {
  uint32_t tier;
  uint32_t place;
};

class Tier2Set {
 public:
  explicit Tier2Set(std::vector<std::unique_ptr<Tier2>> tiers) : tiers_(std::move(tiers)) {}

  uint32_t size() const { return static_cast<uint32_t>(tiers_.size()); }
  Tier2& at(uint32_t tier) { return *tiers_[tier]; }
  const Tier2& at(uint32_t tier) const { return *tiers_[tier]; }

  bool HasRoom() const;
  // Places, and those in use, of the tiers that are not lost.
  uint64_t total() const;
  uint64_t used() const;
  uint64_t memory_bytes() const;

  // 0; -ENOSPC with no room in any tier; or another -errno of `where->tier`:
  // give that one up, and call again.
  int Put(const void* data, TierPlace* where);
  int Get(const TierPlace& where, void* data) { return at(where.tier).Get(where.place, data); }
  void Free(const TierPlace& where) { at(where.tier).Free(where.place); }

  // The session ended; see Tier2::Close().
  void Close();

 private:
  const std::vector<std::unique_ptr<Tier2>> tiers_;
};

}  // namespace snapbak
