// SPDX-License-Identifier: MIT
// What of device-mapper control can be seen without its kernel part; the rest is
// test/kernel/1*-attach*.test.ts.
#include <gtest/gtest.h>

#include "native/driver/device_mapper.h"

namespace snapbak {
namespace {

TEST(DeviceMapper, FindsEveryFunctionThatItUses) {
  DeviceMapper dm;
  ASSERT_NE(dm.library(), nullptr) << "is libdevmapper1.02.1 installed?";
#define SNAPBAK_DM_EXPECT(name) EXPECT_NE(dm.library()->name, nullptr) << #name;
  SNAPBAK_DM_FUNCTIONS(SNAPBAK_DM_EXPECT)
#undef SNAPBAK_DM_EXPECT
}

TEST(DeviceMapper, CountsTheSectorsOfATable) {
  DmTable table;
  EXPECT_EQ(DmSectors(table), 0u);
  table.emplace_back(0, 8, "linear", "8:1 0");
  table.emplace_back(8, 1000, "striped", "2 8 8:1 0 8:2 0");
  EXPECT_EQ(DmSectors(table), 1008u);
}

}  // namespace
}  // namespace snapbak
