// SPDX-License-Identifier: MIT
// Wake-ups between two sides that do not trust each other: a pair of sockets,
// whose bytes say nothing but "look".
//
// Not an eventfd: that is one open file for both sides, and whoever has it may
// take O_NONBLOCK away and fill or empty it, so that the other one blocks for
// ever. Here whether a call may wait is said by the call.
#pragma once

#include "unique_fd.h"

namespace snapbak {

// 0 or -errno.
int MakeWakePair(UniqueFd* ours, UniqueFd* theirs);

// True if a descriptor that came from elsewhere can be an end of such a pair.
bool IsWakeEnd(int fd);

// Makes the other end readable, if it is not already. Never blocks, never raises
// a signal, whatever the other side does.
void Wake(int fd);

// Takes what woke us; some may be left, and wake us again. False: the other
// side has shut its end. Never blocks.
bool TakeWakes(int fd);

}  // namespace snapbak
