// SPDX-License-Identifier: MIT
// Format: include/linux/jbd2.h of Linux. All numbers are big-endian.
#include "ext_journal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include <algorithm>

namespace snapbak {

namespace {

constexpr uint32_t kMagic = 0xc03b3998;
enum BlockType : uint32_t { kDescriptor = 1, kCommit = 2, kSuperV1 = 3, kSuperV2 = 4, kRevoke = 5 };
enum Incompat : uint32_t {
  kHasRevoke = 1,
  k64Bit = 2,
  kAsyncCommit = 4,
  kCsumV2 = 8,
  kCsumV3 = 16,
  kFastCommit = 32,
  kKnown = kHasRevoke | k64Bit | kAsyncCommit | kCsumV2 | kCsumV3 | kFastCommit,
};
enum TagFlag : uint32_t { kEscape = 1, kSameUuid = 2, kDeleted = 4, kLastTag = 8 };
constexpr uint32_t kDefaultFastCommitBlocks = 256;
constexpr uint32_t kMinLogBlocks = 1024;  // JBD2_MIN_JOURNAL_BLOCKS

uint32_t Be32(const uint8_t* at) {
  uint32_t value;
  memcpy(&value, at, sizeof(value));
  return be32toh(value);
}

uint16_t Be16(const uint8_t* at) {
  uint16_t value;
  memcpy(&value, at, sizeof(value));
  return be16toh(value);
}

struct Super {
  uint32_t first = 0;
  uint32_t last = 0;  // the first block behind the log
  uint32_t end = 0;   // the first block behind the fast commits, which follow the log
  uint32_t sequence = 0;
  uint32_t start = 0;
  uint32_t incompat = 0;

  bool has(Incompat feature) const { return (incompat & feature) != 0; }
};

std::string Parse(const ExtJournal& journal, const uint8_t* raw, Super* super) {
  const uint32_t type = Be32(raw + 4);
  if (Be32(raw) != kMagic || (type != kSuperV1 && type != kSuperV2)) return "has no superblock";
  if (Be32(raw + 0x0c) != journal.block_size) return "has another block size than the file system";
  const uint32_t length = Be32(raw + 0x10);
  super->first = Be32(raw + 0x14);
  super->sequence = Be32(raw + 0x18);
  super->start = Be32(raw + 0x1c);
  if (Be32(raw + 0x20) != 0) return "has recorded an error";
  if (type == kSuperV2) {
    super->incompat = Be32(raw + 0x28);
    if ((super->incompat & ~kKnown) != 0 || Be32(raw + 0x2c) != 0) return "has unknown features";
  }
  if (super->has(kCsumV2) && super->has(kCsumV3)) return "has features that exclude each other";
  if (length > journal.blocks || super->first == 0 || super->first >= length) return "has impossible sizes";
  super->last = super->end = length;
  if (super->has(kFastCommit)) {
    uint32_t fast = Be32(raw + 0x54);
    if (fast == 0) fast = kDefaultFastCommitBlocks;
    if (fast > length || length - fast < kMinLogBlocks || length - fast <= super->first) {
      return "has impossible sizes";
    }
    super->last -= fast;
  }
  if (super->start != 0 && (super->start < super->first || super->start >= super->last)) {
    return "begins outside of itself";
  }
  return "";
}

int ReadSuper(const ExtJournal& journal, Super* super, ExtJournalState* state) {
  if (journal.block_size < 1024 || journal.blocks == 0) {
    state->doubt = "has no blocks";
    return 0;
  }
  std::vector<uint8_t> block(journal.block_size);
  int error = journal.read(0, block.data());
  if (error != 0) return error;
  state->doubt = Parse(journal, block.data(), super);
  if (!state->doubt.empty()) return 0;
  state->live = super->start != 0;
  if (super->last == super->end) return 0;
  // the first block of fast commits is written first, and they are read from there
  error = journal.read(super->last, block.data());
  if (error != 0) return error;
  if (std::any_of(block.begin(), block.end(), [](uint8_t byte) { return byte != 0; })) {
    state->doubt = "holds fast commits";
  }
  return 0;
}

struct Tag {
  uint64_t home;
  bool escaped;
};

// The tags of a descriptor block; journal_tag_bytes() tells how long one is.
std::vector<Tag> ParseTags(const Super& super, const std::vector<uint8_t>& block) {
  const bool wide = super.has(k64Bit);
  const bool checked = super.has(kCsumV2) || super.has(kCsumV3);
  size_t bytes = 16;
  if (!super.has(kCsumV3)) bytes = 8 + (super.has(kCsumV2) ? 2 : 0) + (wide ? 4 : 0);
  const size_t end = block.size() - (checked ? 4 : 0);
  std::vector<Tag> tags;
  for (size_t at = 12; at + bytes <= end;) {
    const uint8_t* tag = block.data() + at;
    uint64_t home = Be32(tag);
    if (wide) home |= static_cast<uint64_t>(Be32(tag + 8)) << 32;
    const uint32_t flags = super.has(kCsumV3) ? Be32(tag + 4) : Be16(tag + 6);
    tags.push_back({home, (flags & kEscape) != 0});
    at += bytes + ((flags & kSameUuid) != 0 ? 0 : 16);
    if ((flags & kLastTag) != 0) break;
  }
  return tags;
}

}  // namespace

int ReadExtJournalState(const ExtJournal& journal, ExtJournalState* state) {
  Super super;
  return ReadSuper(journal, &super, state);
}

int WalkExtJournal(const ExtJournal& journal, const ExtJournalVisitor& visitor, ExtJournalState* state) {
  Super super;
  int error = ReadSuper(journal, &super, state);
  if (error != 0 || !state->doubt.empty() || !state->live) return error;
  std::vector<uint8_t> block(journal.block_size);
  std::vector<uint8_t> data(journal.block_size);
  const uint64_t room = super.last - super.first;
  uint64_t passed = 0;
  uint32_t at = super.start;
  uint32_t sequence = super.sequence;
  const auto step = [&] {
    if (++at >= super.last) at = super.first;
    return ++passed <= room;
  };
  for (;;) {
    error = journal.read(at, block.data());
    if (error != 0) return error;
    // the end of the log: an older transaction, or what never was a part of one
    if (Be32(block.data()) != kMagic || Be32(block.data() + 8) != sequence) return 0;
    const uint32_t type = Be32(block.data() + 4);
    bool inside = step();
    if (type == kDescriptor) {
      for (const Tag& tag : ParseTags(super, block)) {
        if (inside && visitor.wants(tag.home)) {
          error = journal.read(at, data.data());
          if (error != 0) return error;
          if (tag.escaped) {
            const uint32_t magic = htobe32(kMagic);
            memcpy(data.data(), &magic, sizeof(magic));
          }
          visitor.copy(tag.home, data.data());
        }
        inside = inside && step();
      }
    } else if (type == kCommit) {
      ++sequence;
      visitor.committed();
    } else if (type != kRevoke) {
      state->doubt = "holds a block of an unknown kind";
      return 0;
    }
    if (!inside) {
      state->doubt = "bites its own tail";
      return 0;
    }
  }
}

}  // namespace snapbak
