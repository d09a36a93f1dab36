// SPDX-License-Identifier: MIT
// The contract's requests as bytes on a Unix stream socket: header, then the
// structure of snapbak.h, both native byte order (a socket of one machine).
// Replies carry the result and the same structure; descriptors travel beside
// them by SCM_RIGHTS. Control path only: no write of an application comes by.
//
// Everything here is a pure function of bytes. What a peer sends is used only
// after ParseRequest has accepted the whole of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../../kernel-module/include/uapi/linux/snapbak.h"

namespace snapbak {

inline constexpr uint32_t kWireMagic = 0x4b424e53;  // "SNBK", little endian

struct WireRequestHeader {
  uint32_t magic;     // kWireMagic
  uint32_t cmd;       // SNAPBAK_IOC_*
  uint32_t size;      // bytes of the structure that follows
  uint32_t sequence;  // of the sender's choice; the reply repeats it
};

struct WireReplyHeader {
  uint32_t magic;
  uint32_t cmd;       // of the request; 0: the connection itself is refused
  uint32_t size;      // bytes of the structure that follows; 0 where the request was malformed
  uint32_t sequence;  // of the request
  int32_t result;     // 0 or a negative errno
  uint32_t reserved;  // 0
};

static_assert(sizeof(WireRequestHeader) == 16, "request header");
static_assert(sizeof(WireReplyHeader) == 24, "reply header");

// Room for any structure of the contract.
union WireBody {
  uint32_t size;  // every structure starts with it
  snapbak_query query;
  snapbak_open open;
  snapbak_setup setup;
  snapbak_start start;
  snapbak_finish finish;
  snapbak_abort abort;
  snapbak_status status;
  snapbak_hint hint;
  snapbak_stop_writes stop_writes;
};

// A longer payload than this is no request of any version that we can skip over.
inline constexpr uint32_t kWireMaxPayload = 4096;
inline constexpr size_t kWireMaxRequest = sizeof(WireRequestHeader) + kWireMaxPayload;
inline constexpr size_t kWireMaxReply = sizeof(WireReplyHeader) + sizeof(WireBody);
// SETUP's reply: memory, event, kick. OPEN's: the lower device.
inline constexpr size_t kWireMaxFds = 3;

// Bytes of the structure of `cmd`, 0 for KICK; -1 for a command that we do not know.
int WirePayloadSize(uint32_t cmd);
// Descriptors that go with a successful reply to `cmd`.
size_t WireReplyFds(uint32_t cmd);

struct WireRequest {
  uint32_t cmd = 0;
  uint32_t sequence = 0;
  uint32_t size = 0;  // bytes of `body` that are meant, and go back; 0: none
  WireBody body{};
};

// What ParseRequest found at the start of the bytes.
enum class Parsed {
  kMore,     // the beginning of a request; nothing consumed
  kRequest,  // a request that keeps every rule of the contract
  kRefused,  // well framed, but to be answered with *error: nothing else of it may be used
  kRubbish,  // not this protocol; there is no way to go on
};

// Looks at `size` bytes. On kRequest and kRefused, *consumed is what the
// request took and *out names it; on kRefused, *error is the answer:
// -ENOTTY unknown command, -EPROTONOSUPPORT a known command with another
// structure, -EINVAL a wrong size field or reserved fields that are not zero.
Parsed ParseRequest(const uint8_t* data, size_t size, size_t* consumed, WireRequest* out, int* error);

// Writes a request; `body` has WirePayloadSize(cmd) bytes. Returns the bytes written.
size_t EncodeRequest(uint32_t cmd, uint32_t sequence, const void* body,
                     uint8_t (&out)[sizeof(WireRequestHeader) + sizeof(WireBody)]);

// Writes the reply to `request`. Returns the bytes written.
size_t EncodeReply(const WireRequest& request, int result, uint8_t (&out)[kWireMaxReply]);

}  // namespace snapbak
