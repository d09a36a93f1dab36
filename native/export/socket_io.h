// SPDX-License-Identifier: MIT
// Whole messages on a stream socket, for both ends of an export. A peer that
// has gone is an error, never a signal.
#pragma once

#include <cstddef>

namespace snapbak {

// All of it. 0, -errno, or -ESHUTDOWN for a peer that closed: before the first
// byte or in the middle.
int ReceiveAll(int fd, void* data, size_t length);

// `head`, then `body`, which may be empty. 0 or -errno.
int SendAll(int fd, const void* head, size_t head_length, const void* body, size_t body_length);

}  // namespace snapbak
