// SPDX-License-Identifier: MIT
// Requests of three peers, as bytes, through the parser and the dispatcher into
// a real engine. Input: for each step a byte that says who (bits 0 and 1; 3: a
// write of the application) and whether the peer leaves (bit 2), then the bytes
// of a request. Nothing may crash, hang, or change the origin.
#include <cstddef>
#include <cstdint>

#include "fuzz-image.h"
#include "native/driver/dispatch.h"
#include "native/driver/wire.h"

using snapbak::Answer;
using snapbak::Parsed;
using snapbak::WireRequest;

namespace {

// The memory that SETUP takes is the library's business; the fuzzer's is small.
bool TooLarge(const WireRequest& request) {
  const snapbak_setup& setup = request.body.setup;
  return request.cmd == SNAPBAK_IOC_SETUP && setup.block_shift <= SNAPBAK_MAX_BLOCK_SHIFT &&
         (static_cast<uint64_t>(setup.nr_slots) << setup.block_shift) > (8u << 20);
}

void CheckParse(const WireRequest& request, Parsed parsed, size_t consumed, size_t size, int error) {
  MUST(consumed <= size);
  switch (parsed) {
    case Parsed::kMore:
      MUST(consumed == 0 && size < snapbak::kWireMaxRequest);
      break;
    case Parsed::kRubbish:
      MUST(consumed == 0);
      break;
    case Parsed::kRefused:
      MUST(consumed >= sizeof(snapbak::WireRequestHeader) && error < 0 && request.size == 0);
      break;
    case Parsed::kRequest:
      MUST(error == 0 && consumed == sizeof(snapbak::WireRequestHeader) + request.size);
      MUST(static_cast<int>(request.size) == snapbak::WirePayloadSize(request.cmd));
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static snapbak::FuzzImage image;
  image.Reset();
  uint8_t byte = 1;
  while (size > 0) {
    const uint8_t step = *data++;
    --size;
    const uint64_t owner = 1 + (step & 3);
    if (owner == 4) {
      image.Write((step >> 3) * 2100u, 3000, byte++);
      continue;
    }
    if ((step & 4) != 0) {
      image.engine()->HandleClose(owner);
      continue;
    }
    WireRequest request;
    size_t consumed;
    int error;
    const Parsed parsed = snapbak::ParseRequest(data, size, &consumed, &request, &error);
    CheckParse(request, parsed, consumed, size, error);
    if (parsed == Parsed::kMore || parsed == Parsed::kRubbish) break;
    data += consumed;
    size -= consumed;
    Answer answer;
    answer.result = error;
    if (parsed == Parsed::kRequest && !TooLarge(request)) {
      answer = Dispatch(image.engine(), owner, &request);
      MUST(answer.result <= 0 && answer.result > -4096);
      if (answer.result == 0) {
        for (size_t i = 0; i < snapbak::kWireMaxFds; ++i) {
          MUST(answer.fds[i].valid() == (i < snapbak::WireReplyFds(request.cmd)));
        }
        MUST(answer.kick.valid() == (request.cmd == SNAPBAK_IOC_SETUP));
      }
    }
    uint8_t reply[snapbak::kWireMaxReply];
    MUST(EncodeReply(request, answer.result, reply) <= sizeof(reply));
  }
  for (uint64_t owner = 1; owner <= 3; ++owner) image.engine()->HandleClose(owner);
  image.Check();
  return 0;
}
