// SPDX-License-Identifier: MIT
// Between our process, which has the device, and nbdkit, which has the clients:
// requests of one size on a pair of sockets, one at a time on each, so that a
// reply needs no name. Native byte order: both ends are on one machine, from
// one build of the package.
//
// Neither end believes the other: CheckRequest and CheckReply are passed before
// anything of a message is used, and what does not pass ends the connection.
#pragma once

#include <cstddef>
#include <cstdint>

namespace snapbak {

inline constexpr uint32_t kExportMagic = 0x58424e53;  // "SNBX", little endian

// The most that one request reads or writes. A client's longer one is cut by the plugin.
inline constexpr uint64_t kExportMaxData = 32u << 20;
// As many connections as one server may have.
inline constexpr unsigned kExportMaxConnections = 64;

enum ExportOp : uint16_t {
  kExportRead = 1,   // the reply is followed by the data, if there is no error
  kExportWrite = 2,  // the request is followed by the data
  kExportZero = 3,
  kExportTrim = 4,
  kExportFlush = 5,
};

enum ExportFlag : uint16_t { kExportFua = 1 };

struct ExportRequest {
  uint32_t magic;  // kExportMagic
  uint16_t op;
  uint16_t flags;
  uint64_t offset;
  uint64_t length;  // 0 for a flush
};

struct ExportReply {
  uint32_t magic;
  int32_t error;  // 0 or a negative errno
};

static_assert(sizeof(ExportRequest) == 24, "request");
static_assert(sizeof(ExportReply) == 8, "reply");

// Whether a request may be used on a device of `size` bytes. Pure.
inline bool CheckRequest(const ExportRequest& request, uint64_t size) {
  if (request.magic != kExportMagic) return false;
  const bool changes = request.op == kExportWrite || request.op == kExportZero || request.op == kExportTrim;
  if ((request.flags & ~(changes ? kExportFua : 0)) != 0) return false;
  switch (request.op) {
    case kExportFlush:
      return request.offset == 0 && request.length == 0;
    case kExportRead:
    case kExportWrite:
      if (request.length > kExportMaxData) return false;
      break;
    case kExportZero:
    case kExportTrim:
      break;
    default:
      return false;
  }
  return request.length > 0 && request.offset <= size && request.length <= size - request.offset;
}

// Whether a reply is one. Pure.
inline bool CheckReply(const ExportReply& reply) {
  return reply.magic == kExportMagic && reply.error <= 0 && reply.error >= -4095;
}

}  // namespace snapbak
