// SPDX-License-Identifier: MIT
#include "ext_features.h"

#include <endian.h>

namespace snapbak {

namespace {

constexpr uint32_t kCompat = EXT2_FEATURE_COMPAT_DIR_PREALLOC | EXT2_FEATURE_COMPAT_IMAGIC_INODES |
                             EXT3_FEATURE_COMPAT_HAS_JOURNAL | EXT2_FEATURE_COMPAT_EXT_ATTR |
                             EXT2_FEATURE_COMPAT_RESIZE_INODE | EXT2_FEATURE_COMPAT_DIR_INDEX |
                             EXT4_FEATURE_COMPAT_SPARSE_SUPER2 | EXT4_FEATURE_COMPAT_FAST_COMMIT |
                             EXT4_FEATURE_COMPAT_STABLE_INODES | EXT4_FEATURE_COMPAT_ORPHAN_FILE;
constexpr uint32_t kIncompat =
    EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER | EXT2_FEATURE_INCOMPAT_META_BG |
    EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_MMP |
    EXT4_FEATURE_INCOMPAT_FLEX_BG | EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_CSUM_SEED |
    EXT4_FEATURE_INCOMPAT_LARGEDIR | EXT4_FEATURE_INCOMPAT_INLINE_DATA | EXT4_FEATURE_INCOMPAT_ENCRYPT |
    EXT4_FEATURE_INCOMPAT_CASEFOLD;
constexpr uint32_t kRoCompat =
    EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |
    EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM | EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
    EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE | EXT4_FEATURE_RO_COMPAT_QUOTA | EXT4_FEATURE_RO_COMPAT_BIGALLOC |
    EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_READONLY | EXT4_FEATURE_RO_COMPAT_PROJECT |
    EXT4_FEATURE_RO_COMPAT_VERITY | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT;

// Where metadata lies depends on these: the superblock of a log must agree in them.
constexpr uint32_t kLayoutCompat =
    EXT3_FEATURE_COMPAT_HAS_JOURNAL | EXT2_FEATURE_COMPAT_RESIZE_INODE | EXT4_FEATURE_COMPAT_SPARSE_SUPER2;
constexpr uint32_t kLayoutIncompat =
    EXT2_FEATURE_INCOMPAT_META_BG | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;
constexpr uint32_t kLayoutRoCompat = EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
                                     EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_BIGALLOC;

}  // namespace

bool SameLayout(const RawSuper& a, const RawSuper& b) {
  const auto same = [](uint32_t x, uint32_t y, uint32_t mask) { return ((x ^ y) & htole32(mask)) == 0; };
  return a.s_inodes_count == b.s_inodes_count && a.s_blocks_count == b.s_blocks_count &&
         a.s_blocks_count_hi == b.s_blocks_count_hi && a.s_first_data_block == b.s_first_data_block &&
         a.s_log_block_size == b.s_log_block_size && a.s_log_cluster_size == b.s_log_cluster_size &&
         a.s_blocks_per_group == b.s_blocks_per_group && a.s_clusters_per_group == b.s_clusters_per_group &&
         a.s_inodes_per_group == b.s_inodes_per_group && a.s_magic == b.s_magic &&
         a.s_rev_level == b.s_rev_level && a.s_inode_size == b.s_inode_size &&
         a.s_reserved_gdt_blocks == b.s_reserved_gdt_blocks && a.s_journal_inum == b.s_journal_inum &&
         a.s_desc_size == b.s_desc_size && a.s_first_meta_bg == b.s_first_meta_bg &&
         a.s_log_groups_per_flex == b.s_log_groups_per_flex && a.s_backup_bgs[0] == b.s_backup_bgs[0] &&
         a.s_backup_bgs[1] == b.s_backup_bgs[1] &&
         same(a.s_feature_compat, b.s_feature_compat, kLayoutCompat) &&
         same(a.s_feature_incompat, b.s_feature_incompat, kLayoutIncompat) &&
         same(a.s_feature_ro_compat, b.s_feature_ro_compat, kLayoutRoCompat);
}

std::string StrangeFeature(uint32_t compat, uint32_t incompat, uint32_t ro_compat) {
  if ((incompat & EXT3_FEATURE_INCOMPAT_JOURNAL_DEV) != 0) return "it is the journal of another file system";
  if ((compat & ~kCompat) == 0 && (incompat & ~kIncompat) == 0 && (ro_compat & ~kRoCompat) == 0) return "";
  return "it has features that Snapbak does not know";
}

}  // namespace snapbak
