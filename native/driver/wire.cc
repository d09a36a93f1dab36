// SPDX-License-Identifier: MIT
#include "wire.h"

#include <errno.h>

#include <cstring>
#include <initializer_list>

namespace snapbak {

namespace {

template <typename T, size_t N>
bool AllZero(const T (&reserved)[N]) {
  for (const T& word : reserved) {
    if (word != 0) return false;
  }
  return true;
}

bool ReservedAreZero(uint32_t cmd, const WireBody& body) {
  switch (cmd) {
    case SNAPBAK_IOC_QUERY:
      return AllZero(body.query.reserved);
    case SNAPBAK_IOC_OPEN:
      return AllZero(body.open.reserved);
    case SNAPBAK_IOC_SETUP:
      return body.setup.pad0 == 0 && AllZero(body.setup.reserved);
    case SNAPBAK_IOC_START:
      return AllZero(body.start.reserved);
    case SNAPBAK_IOC_FINISH:
      return AllZero(body.finish.reserved);
    case SNAPBAK_IOC_ABORT:
      return AllZero(body.abort.reserved);
    case SNAPBAK_IOC_STATUS:
      return AllZero(body.status.reserved);
    case SNAPBAK_IOC_HINT:
      return AllZero(body.hint.reserved);
    case SNAPBAK_IOC_STOP_WRITES:
      return AllZero(body.stop_writes.reserved);
    default:
      return true;
  }
}

// True for a command of ours whose structure has another size, from an older
// or a newer version of the contract.
bool IsOtherVersion(uint32_t cmd) {
  constexpr uint32_t size_bits = static_cast<uint32_t>(_IOC_SIZEMASK) << _IOC_SIZESHIFT;
  for (const uint32_t known :
       {SNAPBAK_IOC_QUERY, SNAPBAK_IOC_OPEN, SNAPBAK_IOC_SETUP, SNAPBAK_IOC_START, SNAPBAK_IOC_FINISH,
        SNAPBAK_IOC_ABORT, SNAPBAK_IOC_STATUS, SNAPBAK_IOC_HINT, SNAPBAK_IOC_STOP_WRITES}) {
    if ((cmd & ~size_bits) == (known & ~size_bits)) return true;
  }
  return false;
}

}  // namespace

int WirePayloadSize(uint32_t cmd) {
  switch (cmd) {
    case SNAPBAK_IOC_KICK:
      return 0;
    case SNAPBAK_IOC_QUERY:
    case SNAPBAK_IOC_OPEN:
    case SNAPBAK_IOC_SETUP:
    case SNAPBAK_IOC_START:
    case SNAPBAK_IOC_FINISH:
    case SNAPBAK_IOC_ABORT:
    case SNAPBAK_IOC_STATUS:
    case SNAPBAK_IOC_HINT:
    case SNAPBAK_IOC_STOP_WRITES:
      return static_cast<int>(_IOC_SIZE(cmd));
    default:
      return -1;
  }
}

size_t WireReplyFds(uint32_t cmd) {
  if (cmd == SNAPBAK_IOC_OPEN) return 1;
  if (cmd == SNAPBAK_IOC_SETUP) return 3;
  return 0;
}

Parsed ParseRequest(const uint8_t* data, size_t size, size_t* consumed, WireRequest* out, int* error) {
  WireRequestHeader header;
  *consumed = 0;
  *error = 0;
  *out = WireRequest{};
  // The magic is judged from its first byte on, so that rubbish is never waited for.
  if (size == 0) return Parsed::kMore;
  if (memcmp(data, &kWireMagic, size < sizeof(kWireMagic) ? size : sizeof(kWireMagic)) != 0) {
    return Parsed::kRubbish;
  }
  if (size < sizeof(header)) return Parsed::kMore;
  memcpy(&header, data, sizeof(header));
  if (header.size > kWireMaxPayload) return Parsed::kRubbish;
  if (size - sizeof(header) < header.size) return Parsed::kMore;

  *consumed = sizeof(header) + header.size;
  out->cmd = header.cmd;
  out->sequence = header.sequence;

  const int expected = WirePayloadSize(header.cmd);
  if (expected < 0) {
    *error = IsOtherVersion(header.cmd) ? -EPROTONOSUPPORT : -ENOTTY;
    return Parsed::kRefused;
  }
  if (header.size != static_cast<uint32_t>(expected)) {
    *error = -EINVAL;
    return Parsed::kRefused;
  }
  if (expected == 0) return Parsed::kRequest;

  memcpy(&out->body, data + sizeof(header), header.size);
  out->size = header.size;
  if (out->body.size != header.size || !ReservedAreZero(header.cmd, out->body)) {
    out->size = 0;
    *error = -EINVAL;
    return Parsed::kRefused;
  }
  return Parsed::kRequest;
}

size_t EncodeRequest(uint32_t cmd, uint32_t sequence, const void* body,
                     uint8_t (&out)[sizeof(WireRequestHeader) + sizeof(WireBody)]) {
  const int size = WirePayloadSize(cmd);
  const WireRequestHeader header = {kWireMagic, cmd, size > 0 ? static_cast<uint32_t>(size) : 0, sequence};
  memcpy(out, &header, sizeof(header));
  if (header.size > 0) memcpy(out + sizeof(header), body, header.size);
  return sizeof(header) + header.size;
}

size_t EncodeReply(const WireRequest& request, int result, uint8_t (&out)[kWireMaxReply]) {
  const WireReplyHeader header = {kWireMagic, request.cmd, request.size, request.sequence, result, 0};
  memcpy(out, &header, sizeof(header));
  if (header.size > 0) memcpy(out + sizeof(header), &request.body, header.size);
  return sizeof(header) + header.size;
}

}  // namespace snapbak
