/* SPDX-License-Identifier: MIT */
/*
 * rubbish.h - what a library that breaks the rules writes into the memory of its own session.
 */
#ifndef GUEST_RUBBISH_H
#define GUEST_RUBBISH_H

#include "session.h"

/*
 * What is spoilt. Most kinds leave the rest alone: a session that broke is
 * nothing that could be spoilt any further.
 */
enum rubbish_kind {
	RUBBISH_ANYWHERE,
	RUBBISH_BITMAP,
	RUBBISH_FLAGS, /* geometry, state, sleep flags; throttle, heartbeat, counters; but no position of a ring */
	RUBBISH_SLOT_TWICE,
	RUBBISH_FREE_OVERFLOW,
	RUBBISH_TAIL_AHEAD,
	RUBBISH_KINDS
};

extern const char *const rubbish_names[RUBBISH_KINDS];

/* Once. Slots are left alone: what is in them nobody but the library reads. */
void rubbish_write(struct session *session, enum rubbish_kind kind, struct random *random);

#endif /* GUEST_RUBBISH_H */
