// SPDX-License-Identifier: MIT
// Logs of ext3 and ext4 made by hand: which copies of blocks a walk finds.
#include <endian.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <string.h>

#include <map>

#include "native/blocks/ext_journal.h"

namespace snapbak {
namespace {

constexpr uint32_t kMagic = 0xc03b3998;
constexpr uint32_t kBlock = 1024;

enum Incompat : uint32_t { kWide = 2, kV2 = 8, kV3 = 16, kFast = 32 };

// A journal of 64 blocks whose log begins at block 1.
class Log {
 public:
  explicit Log(uint32_t incompat = 0, uint32_t length = 64) : incompat_(incompat), blocks_(length) {
    for (auto& block : blocks_) block.assign(kBlock, 0);
    Header(0, 4, 0);
    Put(0, 0x0c, kBlock);
    Put(0, 0x10, length);
    Put(0, 0x14, 1);
    Put(0, 0x28, incompat);
    Start(1, 7);
  }

  void Start(uint32_t block, uint32_t sequence) {
    Put(0, 0x1c, block);
    Put(0, 0x18, sequence);
    at_ = block;
    sequence_ = sequence;
  }

  void Put(uint32_t block, size_t offset, uint32_t value) {
    value = htobe32(value);
    memcpy(blocks_[block].data() + offset, &value, sizeof(value));
  }

  void Header(uint32_t block, uint32_t type, uint32_t sequence) {
    Put(block, 0, kMagic);
    Put(block, 4, type);
    Put(block, 8, sequence);
  }

  // A descriptor and its blocks, which are filled with `fill`, then counted up.
  void Descriptor(const std::vector<uint64_t>& homes, uint8_t fill, uint32_t flags = 0) {
    const uint32_t descriptor = Next();
    Header(descriptor, 1, sequence_);
    size_t offset = 12;
    const bool wide = (incompat_ & kWide) != 0;
    const bool v3 = (incompat_ & kV3) != 0;
    for (size_t i = 0; i < homes.size(); ++i) {
      const uint32_t tag = flags | (i > 0 ? 2 : 0) | (i + 1 == homes.size() ? 8 : 0);
      Put(descriptor, offset, static_cast<uint32_t>(homes[i]));
      Put(descriptor, offset + 4, v3 ? tag : 0xbeef0000 | tag);  // the rest is a checksum
      if (wide) Put(descriptor, offset + 8, static_cast<uint32_t>(homes[i] >> 32));
      offset += v3 ? 16 : 8 + ((incompat_ & kV2) != 0 ? 2 : 0) + (wide ? 4 : 0);
      if (i == 0) offset += 16;  // the UUID
      blocks_[Next()].assign(kBlock, static_cast<uint8_t>(fill + i));
    }
  }

  void Commit() { Header(Next(), 2, sequence_++); }
  void Special(uint32_t type) { Header(Next(), type, sequence_); }

  uint32_t Next() {
    const uint32_t block = at_;
    if (++at_ == blocks_.size()) at_ = 1;
    return block;
  }

  ExtJournal Journal() {
    ExtJournal journal;
    journal.block_size = kBlock;
    journal.blocks = blocks_.size();
    journal.read = [this](uint64_t index, uint8_t* data) {
      if (index >= blocks_.size()) return -ENODATA;
      if (index == bad) return -EIO;
      memcpy(data, blocks_[index].data(), kBlock);
      return 0;
    };
    return journal;
  }

  // The first byte of each copy, by its home.
  std::multimap<uint64_t, int> Walk() {
    std::multimap<uint64_t, int> found;
    state = {};
    committed.clear();
    const ExtJournalVisitor visitor = {
        [](uint64_t) { return true; },
        [&](uint64_t home, const uint8_t* data) { found.emplace(home, data[0]); },
        [&] { committed.push_back(found.size()); }};
    error = WalkExtJournal(Journal(), visitor, &state);
    return found;
  }

  std::vector<uint8_t>& block(uint32_t index) { return blocks_[index]; }

  ExtJournalState state;
  std::vector<size_t> committed;  // how many copies were told at each commit
  int error = 0;
  uint64_t bad = UINT64_MAX;

 private:
  const uint32_t incompat_;
  std::vector<std::vector<uint8_t>> blocks_;
  uint32_t at_ = 1;
  uint32_t sequence_ = 7;
};

using Found = std::multimap<uint64_t, int>;

class TagForms : public testing::TestWithParam<uint32_t> {};

TEST_P(TagForms, AreAllRead) {
  Log log(GetParam());
  log.Descriptor({100, 200, 300}, 10);
  log.Commit();
  log.Descriptor({200}, 20);
  log.Commit();
  EXPECT_EQ(log.Walk(), (Found{{100, 10}, {200, 11}, {300, 12}, {200, 20}}));
  EXPECT_EQ(log.error, 0);
  EXPECT_TRUE(log.state.live);
  EXPECT_EQ(log.state.doubt, "");
}

INSTANTIATE_TEST_SUITE_P(ExtJournal, TagForms, testing::Values(0, kWide, kV2, kV2 | kWide, kV3, kV3 | kWide));

TEST(ExtJournal, HomesHave64BitsWhereItSaysSo) {
  Log log(kV3 | kWide);
  log.Descriptor({0x123456789aull}, 1);
  log.Commit();
  EXPECT_EQ(log.Walk(), (Found{{0x123456789aull, 1}}));
}

TEST(ExtJournal, AnEscapedBlockGetsItsMagicBack) {
  Log log;
  log.Descriptor({5}, 0, 1);
  log.Commit();
  EXPECT_EQ(log.Walk(), (Found{{5, 0xc0}}));
}

TEST(ExtJournal, TellsWhatIsCommitted) {
  Log log;
  log.Descriptor({5, 6}, 1);
  log.Commit();
  log.Descriptor({7}, 2);
  log.Descriptor({8}, 3);
  log.Commit();
  log.Descriptor({9}, 4);
  EXPECT_EQ(log.Walk().size(), 5u);
  EXPECT_EQ(log.committed, (std::vector<size_t>{2, 4}));
}

TEST(ExtJournal, ATransactionWithoutItsCommitCountsToo) {
  Log log;
  log.Descriptor({5}, 1);
  log.Commit();
  log.Descriptor({6}, 2);
  EXPECT_EQ(log.Walk(), (Found{{5, 1}, {6, 2}}));
  EXPECT_EQ(log.state.doubt, "");
}

TEST(ExtJournal, WhatIsOlderThanTheLogIsNotOfIt) {
  Log log;
  log.Start(1, 3);
  log.Descriptor({5}, 1);
  log.Commit();
  log.Descriptor({6}, 2);
  log.Commit();
  log.Start(1, 9);
  log.Descriptor({7}, 3);
  log.Commit();
  EXPECT_EQ(log.Walk(), (Found{{7, 3}}));
}

TEST(ExtJournal, TheLogGoesOnAtItsBeginning) {
  Log log;
  log.Start(61, 7);
  log.Descriptor({5, 6, 7, 8}, 1);
  log.Special(5);  // a revoke record
  log.Commit();
  EXPECT_EQ(log.Walk(), (Found{{5, 1}, {6, 2}, {7, 3}, {8, 4}}));
  EXPECT_EQ(log.state.doubt, "");
}

TEST(ExtJournal, AnEmptyLogHasNothing) {
  Log log;
  log.Descriptor({5}, 1);
  log.Commit();
  log.Start(0, 7);
  EXPECT_EQ(log.Walk(), Found{});
  EXPECT_FALSE(log.state.live);
  EXPECT_EQ(log.state.doubt, "");
}

TEST(ExtJournal, WhatIsNotUnderstoodIsDoubt) {
  const auto doubt = [](uint32_t offset, uint32_t value, uint32_t incompat = 0) {
    Log log(incompat);
    log.Put(0, offset, value);
    log.Walk();
    EXPECT_EQ(log.error, 0);
    return log.state.doubt;
  };
  EXPECT_EQ(doubt(0, 1), "has no superblock");
  EXPECT_EQ(doubt(4, 1), "has no superblock");
  EXPECT_EQ(doubt(0x0c, 4096), "has another block size than the file system");
  EXPECT_EQ(doubt(0x10, 65), "has impossible sizes");
  EXPECT_EQ(doubt(0x14, 0), "has impossible sizes");
  EXPECT_EQ(doubt(0x14, 64), "has impossible sizes");
  EXPECT_EQ(doubt(0x1c, 64), "begins outside of itself");
  EXPECT_EQ(doubt(0x20, 5), "has recorded an error");
  EXPECT_EQ(doubt(0x28, 64), "has unknown features");
  EXPECT_EQ(doubt(0x2c, 1), "has unknown features");
  EXPECT_EQ(doubt(0x28, kV2 | kV3), "has features that exclude each other");
}

TEST(ExtJournal, ABlockOfAnUnknownKindIsDoubt) {
  Log log;
  log.Special(9);
  log.Walk();
  EXPECT_EQ(log.state.doubt, "holds a block of an unknown kind");
}

TEST(ExtJournal, ALogThatNeverEndsIsDoubt) {
  Log log;
  for (int i = 0; i < 63; ++i) log.Special(5);
  log.Walk();
  EXPECT_EQ(log.state.doubt, "bites its own tail");
}

TEST(ExtJournal, FastCommitsAreDoubtAndTheirAreaIsNotTheLogs) {
  Log log(kFast, 2048);
  log.Put(0, 0x54, 8);
  log.Descriptor({5}, 1);
  log.Commit();
  EXPECT_EQ(log.Walk(), (Found{{5, 1}}));
  EXPECT_EQ(log.state.doubt, "");
  log.block(2040)[500] = 1;
  log.Walk();
  EXPECT_EQ(log.state.doubt, "holds fast commits");
}

TEST(ExtJournal, ABlockThatCannotBeReadIsAnError) {
  Log log;
  log.Descriptor({5}, 1);
  for (log.bad = 0; log.bad < 4; ++log.bad) {
    log.Walk();
    EXPECT_EQ(log.error, -EIO) << log.bad;
    if (log.bad == 2) log.Commit();
  }
}

TEST(ExtJournal, RubbishEndsWithoutHarm) {
  uint32_t random = 1;
  for (int round = 0; round < 500; ++round) {
    Log log(round % 64);
    log.Descriptor({5, 6, 7}, 1);
    log.Commit();
    for (int i = 0; i < 8; ++i) {
      random = random * 1664525 + 1013904223;
      log.block((random >> 8) % 6)[(random >> 16) % 64] ^= static_cast<uint8_t>(random >> 24);
    }
    log.Walk();
  }
}

}  // namespace
}  // namespace snapbak
