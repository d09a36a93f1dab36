// SPDX-License-Identifier: MIT
// libext2fs, loaded when it is first needed: the addon must load on machines
// that do not have it. Each file system handle stands for itself, so no lock.
#pragma once

#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

namespace snapbak {

// The functions that are used, under their names without "ext2fs_".
// clang-format off
#define SNAPBAK_EXT2_FUNCTIONS(F) \
  F(bg_flags_test) \
  F(bg_free_blocks_count) \
  F(block_bitmap_csum_verify) \
  F(block_bitmap_loc) \
  F(block_iterate3) \
  F(blocks_count) \
  F(descriptor_block_loc2) \
  F(free) \
  F(group_blocks_count) \
  F(group_desc_csum_verify) \
  F(group_first_block2) \
  F(inode_bitmap_loc) \
  F(inode_table_loc) \
  F(open2) \
  F(super_and_bgd_loc2)
// clang-format on

struct Ext2Library {
#define SNAPBAK_EXT2_MEMBER(name) decltype(&::ext2fs_##name) name;
  SNAPBAK_EXT2_FUNCTIONS(SNAPBAK_EXT2_MEMBER)
#undef SNAPBAK_EXT2_MEMBER

  // The library, or nullptr where it is not installed (or lacks a function).
  static const Ext2Library* Get();
};

}  // namespace snapbak
