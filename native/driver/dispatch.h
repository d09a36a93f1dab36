// SPDX-License-Identifier: MIT
// From a parsed request to the engine and back: what the control server runs
// for each request, without sockets, so that a fuzzer can run it too.
#pragma once

#include <cstdint>

#include "engine.h"
#include "unique_fd.h"
#include "wire.h"

namespace snapbak {

struct Answer {
  int result = 0;
  // Descriptors for the peer: WireReplyFds(cmd) of them if the result is 0.
  UniqueFd fds[kWireMaxFds];
  // After SETUP: our end of the kicks (wake.h). Readable: Engine::Kick().
  UniqueFd kick;
};

// Answers a request that ParseRequest accepted; may block as long as the
// request may. `request->body` becomes the reply's structure.
Answer Dispatch(Engine* engine, uint64_t owner, WireRequest* request);

}  // namespace snapbak
