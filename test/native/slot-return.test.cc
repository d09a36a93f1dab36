// SPDX-License-Identifier: MIT
// When drained slots go back to the driver: at once, or in a group after the
// container was full.
#include "copy-rig.h"
#include "native/copy/slot_return.h"

namespace snapbak {
namespace {

class SlotReturnTest : public testing::Test {
 protected:
  static constexpr uint32_t kSlots = 8;
  static constexpr uint32_t kDrainTo = 5;

  void Hold(uint32_t writes) { snapbak_store_relaxed(&driver_.mine.header()->driver_waiting, writes); }
  std::vector<uint32_t> Returned() { return driver_.TakeFree(); }

  FakeDriver driver_{1u << 20, 12, kSlots};
  SlotReturn slots_{&driver_.library, kDrainTo};
};

using Slots = std::vector<uint32_t>;

TEST_F(SlotReturnTest, ASlotGoesBackAtOnceWhileNobodyIsHeld) {
  EXPECT_TRUE(slots_.Return(3, 7));
  EXPECT_EQ(Returned(), Slots{3});
  EXPECT_TRUE(slots_.Return(1, 6));
  EXPECT_EQ(Returned(), Slots{1});
  EXPECT_EQ(slots_.kept(), 0u);
}

TEST_F(SlotReturnTest, AfterTheContainerWasFullTheyGoBackTogether) {
  Hold(2);
  EXPECT_TRUE(slots_.Return(0, 7));
  EXPECT_TRUE(slots_.Return(1, 6));
  EXPECT_EQ(Returned(), Slots{});
  EXPECT_EQ(slots_.kept(), 2u);
  EXPECT_TRUE(slots_.Return(2, 5));
  EXPECT_EQ(Returned(), (Slots{0, 1, 2}));
  EXPECT_EQ(slots_.kept(), 0u);
}

TEST_F(SlotReturnTest, TheyAreKeptToTheEndThoughNobodyIsHeldAnyMore) {
  Hold(1);
  EXPECT_TRUE(slots_.Return(0, 7));
  Hold(0);  // its block was copied first
  EXPECT_TRUE(slots_.Return(1, 6));
  EXPECT_EQ(Returned(), Slots{});
  EXPECT_TRUE(slots_.Return(2, 5));
  EXPECT_EQ(Returned(), (Slots{0, 1, 2}));
  EXPECT_TRUE(slots_.Return(3, 7));
  EXPECT_EQ(Returned(), Slots{3}) << "that is over";
}

TEST_F(SlotReturnTest, AFewSlotsInUseAreDrainedFarEnough) {
  Hold(1);
  EXPECT_TRUE(slots_.Return(0, kDrainTo));
  EXPECT_EQ(Returned(), Slots{0});
}

TEST_F(SlotReturnTest, ARingThatTheDriverSpoiledIsTold) {
  // a tail that ran ahead of the head
  snapbak_store_relaxed(&driver_.mine.header()->free_tail.value, 1u);
  EXPECT_FALSE(slots_.Return(0, 0));
}

}  // namespace
}  // namespace snapbak
