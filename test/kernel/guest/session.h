/* SPDX-License-Identifier: MIT */
/*
 * session.h - the library's side of the contract, at its smallest.
 *
 * open, set up, list, start, then take events, give slots back, claim, finish.
 * Every request returns 0 or a negative errno. One thread per session.
 */
#ifndef GUEST_SESSION_H
#define GUEST_SESSION_H

#include "snapbak_layout.h"

#include "device.h"

#define SESSION_CONTROL "/dev/snapbak/control"

struct session {
	int control;
	struct snapbak_open opened; /* the reply of OPEN */
	struct snapbak_shm *shm; /* NULL before session_setup() */
	__u64 map_size;
	__u64 *bitmap;
	unsigned char *slots;
	struct snapbak_ring events; /* as the consumer */
	struct snapbak_ring free; /* as the producer */
	struct device lower;
};

struct session_geometry {
	__u32 block_shift;
	__u32 nr_slots;
	__u32 on_full; /* enum snapbak_on_full */
	__u64 hold_timeout_ms;
	__u64 stall_timeout_ms; /* 0: no watchdog */
	__u32 flags; /* SNAPBAK_SETUP_ */
};

int session_open(struct session *session, const char *origin);
int session_setup(struct session *session, const struct session_geometry *geometry);

/* One point in time for @count sessions. @reply is filled after an error too. */
int session_start(struct session *const sessions[], unsigned int count, __u64 timeout_ms,
		  struct snapbak_start *reply);

/* Sleeps until a session has an event or has ended, by the rule of snapbak.h; -ETIME after @timeout_ms. */
int session_wait(struct session *const sessions[], unsigned int count, int timeout_ms);

/* Is there an event, or has it ended? */
int session_has_news(const struct session *session);

/* To be called after bits were cleared, slots returned or events taken. */
int session_kick_waiting(struct session *session);

int session_finish(struct session *session);
int session_abort(struct session *session);

/* Unmaps and closes: a session that runs ends broken. */
void session_close(struct session *session);

/* Of the origin's session, whoever owns it; for this any control descriptor does. */
int session_status(int control, __u64 dev, struct snapbak_status *status);

static inline __u32 session_state(const struct session *session)
{
	return snapbak_load_acquire(&session->shm->state);
}

static inline __u64 session_counter(const struct session *session, enum snapbak_counter counter)
{
	return snapbak_load_relaxed(&session->shm->counters[counter]);
}

/* How many times the histogram has counted. */
static inline __u64 session_times(const struct session *session, enum snapbak_histogram histogram)
{
	__u64 sum = 0;
	unsigned int i;

	for (i = 0; i < SNAPBAK_HISTOGRAM_BUCKETS; i++)
		sum += snapbak_load_relaxed(&session->shm->histograms[histogram][i]);
	return sum;
}

static inline __u64 session_block_size(const struct session *session)
{
	return 1ULL << session->shm->block_shift;
}

/* The last block may be shorter. */
static inline __u64 session_block_bytes(const struct session *session, __u64 block)
{
	__u64 left = session->shm->origin_size - (block << session->shm->block_shift);

	return left < session_block_size(session) ? left : session_block_size(session);
}

static inline void *session_slot(const struct session *session, __u32 slot)
{
	return session->slots + ((size_t)slot << session->shm->block_shift);
}

#endif /* GUEST_SESSION_H */
