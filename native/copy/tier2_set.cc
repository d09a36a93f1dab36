// SPDX-License-Identifier: MIT
// Several second tiers as one.
#include "tier2_set.h"

#include <algorithm>
#include <cerrno>

namespace snapbak {

bool Tier2Set::HasRoom() const {
  return std::any_of(tiers_.begin(), tiers_.end(), [](const auto& tier) { return tier->HasRoom(); });
}

uint64_t Tier2Set::total() const {
  uint64_t sum = 0;
  for (const auto& tier : tiers_) sum += tier->lost() ? 0 : tier->total();
  return sum;
}

uint64_t Tier2Set::used() const {
  uint64_t sum = 0;
  for (const auto& tier : tiers_) sum += tier->lost() ? 0 : tier->used();
  return sum;
}

uint64_t Tier2Set::memory_bytes() const {
  uint64_t sum = 0;
  for (const auto& tier : tiers_) sum += tier->memory_bytes();
  return sum;
}

int Tier2Set::Put(const void* data, TierPlace* where) {
  for (uint32_t i = 0; i < size(); i++) {
    Tier2& tier = at(i);
    if (tier.lost()) continue;
    const int error = tier.Put(data, &where->place);
    if (error == -ENOSPC) continue;
    where->tier = i;
    return error;
  }
  return -ENOSPC;
}

void Tier2Set::Close() {
  for (const auto& tier : tiers_) tier->Close();
}

}  // namespace snapbak
