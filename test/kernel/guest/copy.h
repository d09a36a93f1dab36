/* SPDX-License-Identifier: MIT */
/*
 * copy.h - the copying of one session: events, wanted blocks, the sweep.
 *
 * It is also the judge of the driver's side of the protocol: a block that comes
 * twice, that was never listed, whose bit is still set, or a slot that is
 * already ours ends the copy with -EPROTO and a sentence in copy.fault.
 */
#ifndef GUEST_COPY_H
#define GUEST_COPY_H

#include "session.h"

/* Takes @bytes of content as of the start instant; 0 or a negative errno. */
typedef int copy_store(void *context, const void *data, __u64 bytes, __u64 offset);

struct copy_options {
	int sweep; /* 0: only what the driver captures or wants */
	__u32 run_blocks; /* the longest run that the sweep reads at once */
	__u64 sweep_delay_us; /* after each run */
	__u64 drain_delay_us; /* a slot is kept so much longer */
	__u64 seed; /* of the sweep's order */
};

struct copy_counts {
	__u64 captured; /* CAPTURED events taken */
	__u64 swept; /* blocks claimed after a read */
	__u64 invalid;
	__u64 wanted; /* WANTED events taken */
	__u64 reads; /* reads of the lower device by us */
	__u64 unreadable; /* blocks that the sweep could not read */
};

enum copy_block { COPY_UNLISTED, COPY_LISTED, COPY_STORED, COPY_INVALID };

struct copy {
	struct session *session;
	struct copy_options options;
	copy_store *store;
	void *context;
	struct random random;
	__u8 *blocks; /* enum copy_block, one a block */
	__u8 *with_us; /* one a slot: we hold it */
	__u64 left; /* listed and neither stored nor invalid */
	void *buffer;
	struct copy_counts counts;
	unsigned int overslept; /* waits that ended by time though there was news */
	char fault[160];
};

void copy_init(struct copy *copy, struct session *session, const struct copy_options *options,
	       copy_store *store, void *context);
void copy_release(struct copy *copy);

/* Marks blocks pending, before START. */
void copy_list(struct copy *copy, __u64 first, __u64 count);

/*
 * One step: all events that are there, then at most one run of the sweep.
 * Return: 1 if anything was done, 0 if there is nothing to do now, or a
 * negative errno: -EPROTO a fault of the driver, -ECONNABORTED the session broke.
 */
int copy_step(struct copy *copy);

/* Sleeps until there is news, a signal, or a moment has passed. -EPROTO: there was news, and no wake-up. */
int copy_wait(struct copy *const copies[], unsigned int count);

/* Steps of all until every listed block is stored or invalid. */
int copy_run(struct copy *const copies[], unsigned int count);

#endif /* GUEST_COPY_H */
