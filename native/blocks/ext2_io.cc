// SPDX-License-Identifier: MIT
#include "ext2_io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace snapbak {

namespace {

Ext2Source* SourceOf(io_channel channel) { return static_cast<Ext2Source*>(channel->private_data); }

errcode_t Open(const char* name, int flags, io_channel* out) {
  void* source = nullptr;
  if ((flags & IO_FLAG_RW) != 0) return EXT2_ET_RO_FILSYS;
  if (sscanf(name, "%p", &source) != 1) return EXT2_ET_BAD_DEVICE_NAME;
  auto* channel = static_cast<io_channel>(calloc(1, sizeof(struct struct_io_channel)));
  if (channel == nullptr) return EXT2_ET_NO_MEMORY;
  channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  channel->manager = Ext2Source::Manager();
  channel->name = strdup(name);
  channel->block_size = 1024;
  channel->refcount = 1;
  channel->private_data = source;
  *out = channel;
  return 0;
}

errcode_t Close(io_channel channel) {
  if (--channel->refcount > 0) return 0;
  free(channel->name);
  free(channel);
  return 0;
}

errcode_t SetBlockSize(io_channel channel, int size) {
  channel->block_size = size;
  return 0;
}

// A negative count is one of bytes.
errcode_t ReadBlocks64(io_channel channel, unsigned long long block, int count, void* data) {
  const uint64_t unit = static_cast<uint64_t>(channel->block_size);
  const uint64_t bytes = count < 0 ? static_cast<uint64_t>(-static_cast<int64_t>(count)) : count * unit;
  if (block > UINT64_MAX / unit) return EXT2_ET_BAD_BLOCK_NUM;
  return SourceOf(channel)->Read(block * unit, data, bytes) == 0 ? 0 : EXT2_ET_SHORT_READ;
}

errcode_t ReadBlocks(io_channel channel, unsigned long block, int count, void* data) {
  return ReadBlocks64(channel, block, count, data);
}

errcode_t WriteBlocks64(io_channel, unsigned long long, int, const void*) { return EXT2_ET_RO_FILSYS; }
errcode_t WriteBlocks(io_channel, unsigned long, int, const void*) { return EXT2_ET_RO_FILSYS; }
errcode_t Flush(io_channel) { return 0; }

struct struct_io_manager MakeManager() {
  struct struct_io_manager manager = {};
  manager.magic = EXT2_ET_MAGIC_IO_MANAGER;
  manager.name = "Snapbak";
  manager.open = &Open;
  manager.close = &Close;
  manager.set_blksize = &SetBlockSize;
  manager.read_blk = &ReadBlocks;
  manager.write_blk = &WriteBlocks;
  manager.flush = &Flush;
  manager.read_blk64 = &ReadBlocks64;
  manager.write_blk64 = &WriteBlocks64;
  return manager;
}

}  // namespace

io_manager Ext2Source::Manager() {
  static struct struct_io_manager manager = MakeManager();
  return &manager;
}

std::string Ext2Source::Name() const {
  char name[32];
  snprintf(name, sizeof(name), "%p", static_cast<const void*>(this));
  return name;
}

int Ext2Source::Read(uint64_t at, void* data, size_t bytes) {
  const int error = range_.Read(at, data, bytes);
  if (error != 0 && error_ == 0) error_ = error;
  return error;
}

}  // namespace snapbak
