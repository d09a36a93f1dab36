/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_slots.h - which slots are free, and room for their events.
 *
 * The driver's side of both rings: what comes back from the library is checked
 * here, and nowhere else. A capture takes its slots and its places in the
 * event ring together, before it clears a bit, so that no event is ever lost
 * for want of room. The caller serialises: every function is called under one
 * lock of the driver's.
 */
#ifndef SNAPBAK_SLOTS_H
#define SNAPBAK_SLOTS_H

#include "snapbak_ring.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A call never takes back more returned slots than this: it bounds the time under the lock. */
#define SNAPBAK_SLOTS_COLLECT 1024

struct snapbak_slots {
	struct snapbak_ring events; /* this side produces */
	struct snapbak_ring returned; /* this side consumes */
	__u32 *free; /* a stack of nr: the slot used last is the warmest */
	__u64 *with_library; /* one bit a slot */
	__u32 nr;
	__u32 nr_free;
	__u32 reserved; /* places taken in the event ring, not published */
};

void snapbak_slots_init(struct snapbak_slots *s, __u32 nr);
int snapbak_slots_take(struct snapbak_slots *s, __u32 want, __u32 *out);
void snapbak_slots_put_back(struct snapbak_slots *s, const __u32 *slots, __u32 count);
void snapbak_slots_publish(struct snapbak_slots *s, struct snapbak_event *events, __u32 count);
int snapbak_slots_try_publish(struct snapbak_slots *s, const struct snapbak_event *event);
int snapbak_slots_available(struct snapbak_slots *s);

/* Slots that are not free. */
static inline __u32 snapbak_slots_used(const struct snapbak_slots *s)
{
	return s->nr - s->nr_free;
}

#ifdef __cplusplus
}
#endif

#endif /* SNAPBAK_SLOTS_H */
