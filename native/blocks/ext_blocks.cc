// SPDX-License-Identifier: MIT
// A used block that is left out is data loss, a free one that is listed costs
// time: wherever two sources may differ, both count, and where anything is not
// as expected, nothing is left out (`doubt`).
//
// A file system that was unmounted, or that e2fsck has found consistent, has its
// bitmaps on the disk, and they must agree with their checksums and with the counts
// of the descriptors.
//
// One that is mounted (seen through a driver, or after a crash) has a *live log*:
// blocks of its metadata that are newer than those in their places. Somebody will
// recover it: after a restore, the kernel or e2fsck writes the last copy of each
// block in the log to its place, unless it was revoked, and frees the orphans.
// This is why the list is right for what comes out of that:
//   1. After recovery the bitmap of a group is *one of*: the block on the disk,
//      or one of its copies in the log. So a cluster that is used then is set in
//      their union. The order of transactions, revoke records and checksums of
//      the log only choose among them, and may be ignored.
//   2. A group is without a bitmap (BLOCK_UNINIT) after recovery only if *one of*
//      its descriptor on the disk and its copies in the log says so; else its
//      bitmap counts as in 1. A descriptor still in the log may belong to a bitmap
//      that has reached its place already, so that block counts even where the
//      descriptor on the disk says that there is none. What a group without a bitmap
//      uses is metadata, which is listed for all groups.
//   3. Bitmaps, tables and descriptors stay where they are: copies of descriptors
//      or of the superblock that say otherwise (a resize) are doubt.
//   4. Blocks that were allocated in the log only are set in the log's bitmaps (1).
//      Their content is in the log or in their place; the log's own blocks are
//      allocated since mkfs, and listed besides.
//   5. Blocks that were freed, in the log or by an orphan that recovery removes,
//      are listed where any copy still has them set. Recovery reads nothing else.
//   6. Data that was written to blocks whose allocation was never committed (delayed
//      allocation, or a transaction that was running) belongs to no file after
//      recovery.
//   7. Fast commits are no copies of blocks: a log that holds some is doubt.
#include "ext_blocks.h"

#include <endian.h>
#include <string.h>

#include <algorithm>
#include <memory>
#include <unordered_map>

#include "ext2_io.h"
#include "ext_features.h"
#include "ext_journal.h"

namespace snapbak {

namespace {

constexpr uint64_t kSuperOffset = 1024;
constexpr size_t kSuperBytes = sizeof(ext2_super_block);

int CollectBlock(ext2_filsys, blk64_t* block, e2_blkcnt_t count, blk64_t, int, void* data) {
  auto* blocks = static_cast<std::vector<uint64_t>*>(data);
  // holes would be a journal that nobody could use
  if (count < 0 || static_cast<uint64_t>(count) != blocks->size()) return BLOCK_ABORT;
  blocks->push_back(*block);
  return 0;
}

class Finder {
 public:
  Finder(const Ext2Library* ext2, const SourceRange& range, bool checked)
      : ext2_(ext2), range_(range), source_(range), checked_(checked) {}
  ~Finder() {
    if (fs_ != nullptr) ext2_->free(fs_);
  }

  ExtBlocks Find() {
    Run();
    if (source_.error() != 0) out_.doubt = std::string("it cannot be read: ") + strerror(-source_.error());
    return std::move(out_);
  }

 private:
  void Run() {
    if (Open() && Features() && Untouched() && Journal() && Descriptors() && Log()) Groups();
  }

  bool Doubt(std::string why) {
    out_.doubt = std::move(why);
    return false;
  }

  bool Open() {
    if (source_.Read(kSuperOffset, &super_, kSuperBytes) != 0) return false;
    const errcode_t error =
        ext2_->open2(source_.Name().c_str(), nullptr, EXT2_FLAG_64BITS, 0, 0, Ext2Source::Manager(), &fs_);
    if (error != 0) {
      fs_ = nullptr;
      if (error == EXT2_ET_UNSUPP_FEATURE || error == EXT2_ET_RO_UNSUPP_FEATURE) {
        return Doubt("it has features that libext2fs does not know");
      }
      if (error == EXT2_ET_SB_CSUM_INVALID) return Doubt("the checksum of its superblock is wrong");
      return Doubt("libext2fs cannot open it (error " + std::to_string(error) + ")");
    }
    block_size_ = fs_->blocksize;
    blocks_ = ext2_->blocks_count(fs_->super);
    ratio_ = fs_->cluster_ratio_bits;
    end_ = blocks_ * block_size_;
    if (block_size_ < 1024 || blocks_ > UINT64_MAX / block_size_ || end_ > range_.length) {
      return Doubt("it is larger than its device");
    }
    return true;
  }

  bool Features() {
    const ext2_super_block* super = fs_->super;
    const std::string strange =
        StrangeFeature(super->s_feature_compat, super->s_feature_incompat, super->s_feature_ro_compat);
    if (!strange.empty()) return Doubt(strange);
    if ((super->s_state & EXT2_ERROR_FS) != 0) return Doubt("it has recorded errors: run e2fsck");
    has_journal_ = (super->s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL) != 0;
    const bool recover = (super->s_feature_incompat & EXT3_FEATURE_INCOMPAT_RECOVER) != 0;
    if (has_journal_ && super->s_journal_inum == 0) return Doubt("its journal is on another device");
    if (recover && !has_journal_) return Doubt("it has to be recovered and has no journal");
    if ((super->s_state & EXT2_VALID_FS) == 0 && !(checked_ && !has_journal_)) {
      out_.unclean = !has_journal_;
      return Doubt("it is mounted without a journal, or was not unmounted: freeze it, or run e2fsck");
    }
    return true;
  }

  // Where its users keep each other off (MMP), e2fsck says that it is at work, which writes inodes before
  // bitmaps.
  bool Untouched() {
    if ((fs_->super->s_feature_incompat & EXT4_FEATURE_INCOMPAT_MMP) == 0) return true;
    mmp_struct mmp;
    const uint64_t block = fs_->super->s_mmp_block;
    if (block >= blocks_) return Doubt("its MMP block lies outside of it");
    if (source_.Read(block * block_size_, &mmp, sizeof(mmp)) != 0) return false;
    const uint32_t sequence = le32toh(mmp.mmp_seq);
    if (le32toh(mmp.mmp_magic) != EXT4_MMP_MAGIC) return Doubt("its MMP block is not understood");
    return sequence <= EXT4_MMP_SEQ_MAX || sequence == EXT4_MMP_SEQ_CLEAN ||
           Doubt("e2fsck is at work on it, or did not come to its end");
  }

  bool Journal() {
    if (!has_journal_) return true;
    const errcode_t error =
        ext2_->block_iterate3(fs_, fs_->super->s_journal_inum, BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY,
                              nullptr, &CollectBlock, &journal_blocks_);
    if (error != 0) return Doubt("its journal's inode cannot be read");
    for (const uint64_t block : journal_blocks_) {
      if (block == 0 || block >= blocks_) return Doubt("its journal lies outside of it");
      AddBlocks(block, 1);
    }
    ExtJournalState state;
    const ExtJournal journal = Log_();
    if (ReadExtJournalState(journal, &state) != 0) return false;
    if (!state.doubt.empty()) return Doubt("its journal " + state.doubt);
    out_.live_journal = state.live;
    return true;
  }

  ExtJournal Log_() {
    ExtJournal journal;
    journal.block_size = block_size_;
    journal.blocks = journal_blocks_.size();
    journal.read = [this](uint64_t index, uint8_t* data) {
      return source_.Read(journal_blocks_[index] * block_size_, data, block_size_);
    };
    return journal;
  }

  // Those of the disk must be whole in themselves, also with a live log: a block is written at once.
  bool Descriptors() {
    for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
      if (!ext2_->group_desc_csum_verify(fs_, group))
        return Doubt("the checksum of a group descriptor is wrong");
      const uint64_t tables[] = {ext2_->block_bitmap_loc(fs_, group), ext2_->inode_bitmap_loc(fs_, group),
                                 ext2_->inode_table_loc(fs_, group)};
      const uint64_t counts[] = {1, 1, fs_->inode_blocks_per_group};
      for (int i = 0; i < 3; ++i) {
        if (tables[i] == 0 || tables[i] >= blocks_ || counts[i] > blocks_ - tables[i]) {
          return Doubt("a group descriptor points outside of it");
        }
      }
    }
    return true;
  }

  // Where block `index` of the descriptors lies, in group 0 or, with meta_bg, in its own group. With bigalloc
  // and blocks of 1 KiB, block 0 is nobody's and all of them lie one further; ext2fs_descriptor_block_loc2()
  // knows that of the first only. Those of group 0 are one behind another.
  uint64_t DescriptorBlock(uint64_t index) const {
    const bool meta = (fs_->super->s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG) != 0;
    const bool together = !meta || index < fs_->super->s_first_meta_bg;
    const uint64_t of_group = fs_->super->s_first_data_block;
    return together ? ext2_->descriptor_block_loc2(fs_, of_group, 0) + index
                    : ext2_->descriptor_block_loc2(fs_, of_group, static_cast<dgrp_t>(index));
  }

  // What the log says of bitmaps, descriptors and the superblock.
  bool Log() {
    if (!out_.live_journal) return true;
    std::unordered_map<uint64_t, dgrp_t> bitmaps;
    std::unordered_map<uint64_t, uint64_t> tables;
    for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
      bitmaps.emplace(ext2_->block_bitmap_loc(fs_, group), group);
    }
    for (uint64_t i = 0; i < fs_->desc_blocks; ++i) {
      tables.emplace(DescriptorBlock(i), i);
    }
    const uint64_t super_block = kSuperOffset / block_size_;
    std::string doubt, suspicion;  // of what is not known to be committed yet
    int error = 0;
    const auto wants = [&](uint64_t home) {
      if (home >= blocks_) suspicion = "its journal has a block that lies outside of it";
      return home == super_block || bitmaps.count(home) != 0 || tables.count(home) != 0;
    };
    const auto copy = [&](uint64_t home, const uint8_t* data) {
      if (home == super_block) {
        if (!SuperAgrees(data)) suspicion = "its layout changes in its journal";
      }
      const auto table = tables.find(home);
      if (table != tables.end()) {
        const int agrees = TableAgrees(home, table->second, data);
        if (agrees < 0) error = agrees;
        if (agrees == 0) suspicion = "its layout changes in its journal";
      }
      const auto bitmap = bitmaps.find(home);
      if (bitmap != bitmaps.end()) Merge(bitmap->second, data);
    };
    const auto committed = [&] {
      if (doubt.empty()) doubt = suspicion;
    };
    ExtJournalState state;
    if (WalkExtJournal(Log_(), {wants, copy, committed}, &state) != 0 || error != 0) return false;
    if (!state.doubt.empty()) return Doubt("its journal " + state.doubt);
    return doubt.empty() || Doubt(doubt);
  }

  bool SuperAgrees(const uint8_t* block) const {
    RawSuper copy;
    memcpy(&copy, block + kSuperOffset % block_size_, kSuperBytes);
    return SameLayout(copy, super_) && (le16toh(copy.s_state) & EXT2_ERROR_FS) == 0 &&
           StrangeFeature(le32toh(copy.s_feature_compat), le32toh(copy.s_feature_incompat),
                          le32toh(copy.s_feature_ro_compat))
               .empty();
  }

  // 1, 0, or -errno. Notes the groups that have a bitmap by this copy.
  int TableAgrees(uint64_t home, uint64_t index, const uint8_t* copy) {
    std::vector<uint8_t> place(block_size_);
    const int error = source_.Read(home * block_size_, place.data(), block_size_);
    if (error != 0) return error;
    const bool wide = (fs_->super->s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0;
    const size_t bytes = wide ? fs_->super->s_desc_size : EXT2_MIN_DESC_SIZE;
    const size_t known = std::min(bytes, sizeof(ext4_group_desc));
    const uint64_t each = block_size_ / bytes;
    for (uint64_t i = 0; i < each; ++i) {
      const uint64_t group = index * each + i;
      if (group >= fs_->group_desc_count) break;
      ext4_group_desc now = {}, logged = {};
      memcpy(&now, place.data() + i * bytes, known);
      memcpy(&logged, copy + i * bytes, known);
      if (now.bg_block_bitmap != logged.bg_block_bitmap || now.bg_inode_bitmap != logged.bg_inode_bitmap ||
          now.bg_inode_table != logged.bg_inode_table ||
          now.bg_block_bitmap_hi != logged.bg_block_bitmap_hi ||
          now.bg_inode_bitmap_hi != logged.bg_inode_bitmap_hi ||
          now.bg_inode_table_hi != logged.bg_inode_table_hi) {
        return 0;
      }
      if ((le16toh(logged.bg_flags) & EXT2_BG_BLOCK_UNINIT) == 0)
        has_bitmap_[static_cast<dgrp_t>(group)] = true;
    }
    return 1;
  }

  void Merge(dgrp_t group, const uint8_t* bitmap) {
    std::vector<uint8_t>& merged = logged_[group];
    merged.resize(BitmapBytes());
    for (size_t i = 0; i < merged.size(); ++i) merged[i] |= bitmap[i];
  }

  size_t BitmapBytes() const { return fs_->super->s_clusters_per_group / 8; }

  bool Groups() {
    if (fs_->super->s_clusters_per_group % 8 != 0 || BitmapBytes() > block_size_ ||
        static_cast<uint64_t>(fs_->super->s_clusters_per_group) << ratio_ != fs_->super->s_blocks_per_group) {
      return Doubt("its groups have impossible sizes");
    }
    AddBytes(0,
             std::max<uint64_t>(block_size_, 2 * kSuperOffset));  // where it boots from, and the superblock
    std::vector<uint8_t> bitmap(block_size_);
    for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
      if (!Metadata(group) || !Bitmap(group, &bitmap)) return false;
      AddBitmap(group, bitmap);
    }
    if (end_ < range_.length) AddBytes(end_, range_.length - end_);
    return true;
  }

  bool Metadata(dgrp_t group) {
    return EachTable(group, [this](uint64_t first, uint64_t count) { AddBlocks(first, count); });
  }

  // Calls `add(first, count)` for the blocks of a group's own metadata, of which some may lie in another
  // group.
  template <typename Add>
  bool EachTable(dgrp_t group, Add add) {
    blk64_t super = 0, old_table = 0, new_table = 0;
    blk_t used = 0;
    if (ext2_->super_and_bgd_loc2(fs_, group, &super, &old_table, &new_table, &used) != 0) {
      return Doubt("its group descriptors cannot be found");
    }
    // as ext2fs_reserve_super_and_bgd does, whose bitmap would be in memory for all groups
    const bool meta = (fs_->super->s_feature_incompat & EXT2_FEATURE_INCOMPAT_META_BG) != 0;
    const uint64_t tables =
        meta ? fs_->super->s_first_meta_bg : uint64_t{fs_->desc_blocks} + fs_->super->s_reserved_gdt_blocks;
    if (super != 0 || group == 0) add(super, 1);
    if (old_table != 0) add(old_table, tables);
    if (new_table != 0) add(new_table, 1);
    add(ext2_->block_bitmap_loc(fs_, group), 1);
    add(ext2_->inode_bitmap_loc(fs_, group), 1);
    add(ext2_->inode_table_loc(fs_, group), fs_->inode_blocks_per_group);
    return true;
  }

  // Of a group without one: what its metadata use; all, if its count says that more is used.
  bool MakeBitmap(dgrp_t group, std::vector<uint8_t>* bitmap) {
    if (group == 0) return Doubt("its first group has no block bitmap: run e2fsck");
    const uint64_t begin = ext2_->group_first_block2(fs_, group);
    const uint64_t end = begin + static_cast<uint64_t>(ext2_->group_blocks_count(fs_, group));
    const bool found = EachTable(group, [&](uint64_t first, uint64_t count) {
      for (uint64_t block = std::max(first, begin); block < std::min(first + count, end); ++block) {
        const uint64_t i = (block - begin) >> ratio_;
        (*bitmap)[i / 8] = static_cast<uint8_t>((*bitmap)[i / 8] | 1 << (i % 8));
      }
    });
    if (CountFree(group, *bitmap) > ext2_->bg_free_blocks_count(fs_, group)) {
      std::fill(bitmap->begin(), bitmap->end(), 0xff);
    }
    return found;
  }

  // Of the disk and of the log together.
  bool Bitmap(dgrp_t group, std::vector<uint8_t>* bitmap) {
    const bool checked = !out_.live_journal;
    const bool none = ext2_->bg_flags_test(fs_, group, EXT2_BG_BLOCK_UNINIT) != 0 &&
                      (fs_->super->s_feature_ro_compat &
                       (EXT4_FEATURE_RO_COMPAT_GDT_CSUM | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM)) != 0;
    if (none && has_bitmap_.count(group) == 0) {
      std::fill(bitmap->begin(), bitmap->end(), 0);
      if (checked && !MakeBitmap(group, bitmap)) return false;
    } else {
      const uint64_t at = ext2_->block_bitmap_loc(fs_, group) * block_size_;
      if (source_.Read(at, bitmap->data(), block_size_) != 0) return false;
      if (checked) {
        char* bits = reinterpret_cast<char*>(bitmap->data());
        if (!ext2_->block_bitmap_csum_verify(fs_, group, bits, static_cast<int>(BitmapBytes()))) {
          return Doubt("the checksum of a block bitmap is wrong");
        }
        if (CountFree(group, *bitmap) != ext2_->bg_free_blocks_count(fs_, group)) {
          return Doubt("a block bitmap and its count of free blocks differ: run e2fsck");
        }
      }
    }
    const auto logged = logged_.find(group);
    if (logged != logged_.end()) {
      for (size_t i = 0; i < logged->second.size(); ++i) (*bitmap)[i] |= logged->second[i];
    }
    return true;
  }

  uint64_t Clusters(dgrp_t group) const {
    const uint64_t blocks = static_cast<uint64_t>(ext2_->group_blocks_count(fs_, group));
    return (blocks + (uint64_t{1} << ratio_) - 1) >> ratio_;
  }

  static bool Used(const std::vector<uint8_t>& bitmap, uint64_t i) {
    return (bitmap[i / 8] >> (i % 8) & 1) != 0;
  }

  uint64_t CountFree(dgrp_t group, const std::vector<uint8_t>& bitmap) const {
    uint64_t free = 0;
    const uint64_t clusters = Clusters(group);
    for (uint64_t i = 0; i < clusters; ++i) free += !Used(bitmap, i);
    return free;
  }

  void AddBitmap(dgrp_t group, const std::vector<uint8_t>& bitmap) {
    const uint64_t first = ext2_->group_first_block2(fs_, group);
    const uint64_t clusters = Clusters(group);
    for (uint64_t i = 0; i < clusters;) {
      if (i % 8 == 0 && bitmap[i / 8] == 0) {
        i += 8;
        continue;
      }
      if (!Used(bitmap, i)) {
        ++i;
        continue;
      }
      uint64_t end = i + 1;
      while (end < clusters && Used(bitmap, end)) ++end;
      AddBlocks(first + (i << ratio_), (end - i) << ratio_);
      i = end;
    }
  }

  // Cut at the end: the last cluster may reach beyond it.
  void AddBlocks(uint64_t first, uint64_t count) {
    if (first >= blocks_) return;
    AddBytes(first * block_size_, std::min(count, blocks_ - first) * block_size_);
  }

  void AddBytes(uint64_t offset, uint64_t length) {
    length = std::min(length, range_.length - offset);
    std::vector<Extent>& all = out_.extents;
    if (!all.empty() && all.back().offset + all.back().length == offset) {
      all.back().length += length;
    } else if (length > 0) {
      all.push_back({offset, length});
    }
  }

  const Ext2Library* const ext2_;
  const SourceRange range_;
  Ext2Source source_;
  const bool checked_;
  ExtBlocks out_;
  RawSuper super_ = {};
  ext2_filsys fs_ = nullptr;
  uint32_t block_size_ = 0;
  uint64_t blocks_ = 0;
  uint64_t end_ = 0;
  int ratio_ = 0;  // blocks a cluster, as a power of two
  bool has_journal_ = false;
  std::vector<uint64_t> journal_blocks_;
  std::unordered_map<dgrp_t, std::vector<uint8_t>> logged_;  // union of the log's copies of a bitmap
  std::unordered_map<dgrp_t, bool> has_bitmap_;              // by a descriptor in the log
};

}  // namespace

ExtBlocks FindExtBlocks(const SourceRange& range, bool checked) {
  const Ext2Library* ext2 = Ext2Library::Get();
  if (ext2 == nullptr) {
    ExtBlocks out;
    out.doubt = "libext2fs is not installed (Debian: apt-get install libext2fs2)";
    return out;
  }
  return Finder(ext2, range, checked).Find();
}

}  // namespace snapbak
