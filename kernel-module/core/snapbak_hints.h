/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_hints.h - the hint ring: what other processes would have copied next.
 *
 * The driver writes, the library reads, and a new hint takes the place of the
 * oldest one, read or not: the ring is bounded and later hints win without the
 * driver ever looking at what the library says. What the library may miss is
 * advice. It finds out what was overwritten while it read by looking at the
 * driver's position again.
 */
#ifndef SNAPBAK_HINTS_H
#define SNAPBAK_HINTS_H

#include "snapbak_atomic.h"

#ifdef __KERNEL__
#include <uapi/linux/snapbak.h>
#else
#include "../include/uapi/linux/snapbak.h"
#endif

/**
 * snapbak_hints_put() - the driver writes one hint.
 * @shm: the header.
 * @mine: the driver's position, whatever shared memory says; the caller serialises.
 * @hint: bytes of the origin.
 *
 * Context: any; does not sleep.
 */
static inline void snapbak_hints_put(struct snapbak_shm *shm, __u32 *mine,
				     const struct snapbak_extent *hint)
{
	struct snapbak_extent *entry = &shm->hints[*mine % SNAPBAK_NR_HINTS];

	/* whoever reads this entry's bytes finds the position of the one before it */
	snapbak_full_fence();
	snapbak_store_relaxed(&entry->offset, hint->offset);
	snapbak_store_relaxed(&entry->length, hint->length);
	*mine += 1;
	snapbak_store_release(&shm->hint_head.value, *mine);
}

#ifndef __KERNEL__ /* the library's half */

/* Has the driver written a hint since @mine? */
static inline int snapbak_hints_ready(const struct snapbak_shm *shm, __u32 mine)
{
	return snapbak_load_acquire(&shm->hint_head.value) != mine;
}

/**
 * snapbak_hints_take() - the library reads all hints that are whole.
 * @shm: the header.
 * @mine: the library's position; moved, and published.
 * @out: room for SNAPBAK_NR_HINTS; the oldest comes first. The caller checks
 *	what they say.
 *
 * Context: any; does not sleep.
 * Return: how many; fewer than were written where newer ones took their places.
 */
static inline __u32 snapbak_hints_take(struct snapbak_shm *shm, __u32 *mine,
				       struct snapbak_extent *out)
{
	__u32 head = snapbak_load_acquire(&shm->hint_head.value);
	__u32 first = head - *mine > SNAPBAK_NR_HINTS ? head - SNAPBAK_NR_HINTS : *mine;
	__u32 n = head - first;
	__u32 behind, lost, i;

	for (i = 0; i < n; i++) {
		const struct snapbak_extent *entry = &shm->hints[(first + i) % SNAPBAK_NR_HINTS];

		out[i].offset = snapbak_load_relaxed(&entry->offset);
		out[i].length = snapbak_load_relaxed(&entry->length);
	}
	/* the entry that follows the last published one may be half written */
	snapbak_full_fence();
	behind = snapbak_load_relaxed(&shm->hint_head.value) - first;
	lost = behind >= SNAPBAK_NR_HINTS ? behind - SNAPBAK_NR_HINTS + 1 : 0;
	if (lost > n)
		lost = n;
	for (i = lost; i < n; i++)
		out[i - lost] = out[i];
	*mine = head;
	snapbak_store_relaxed(&shm->hint_tail.value, head);
	return n - lost;
}

#endif /* __KERNEL__ */

#endif /* SNAPBAK_HINTS_H */
