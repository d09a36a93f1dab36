/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_heat.h - when each region of an origin was written last.
 *
 * A driver keeps it from the first write on, session or not: a tick a region,
 * stored on the way of every write. Writers of a region race, and whoever
 * stores last wins; the word is stored only where it changes, so that writers
 * of a hot region share its cache line instead of passing it around. What is
 * lost in a race is a fraction of a tick of advice.
 *
 * A session that asked for it gets a copy at START; see "Heat" in snapbak.h.
 */
#ifndef SNAPBAK_HEAT_H
#define SNAPBAK_HEAT_H

#include "snapbak_atomic.h"

#ifdef __KERNEL__
#include <uapi/linux/snapbak.h>
#else
#include "../include/uapi/linux/snapbak.h"
#endif

/* Regions are as small as SNAPBAK_MAX_HEAT of them can be. @origin_size: at least 1. */
static inline __u32 snapbak_heat_shift(__u64 origin_size)
{
	__u32 shift = SNAPBAK_MIN_HEAT_SHIFT;

	while ((origin_size - 1) >> shift >= SNAPBAK_MAX_HEAT)
		shift++;
	return shift;
}

static inline __u32 snapbak_heat_regions(__u64 origin_size)
{
	return (__u32)((origin_size - 1) >> snapbak_heat_shift(origin_size)) + 1;
}

/**
 * snapbak_heat_touch() - regions are being written.
 * @ticks: the driver's own table.
 * @first: the first region.
 * @last: the last one, at least @first; the caller knows that it is inside.
 * @now: this tick, not 0.
 *
 * Context: any, on any number of processors at once; does not sleep.
 */
static inline void snapbak_heat_touch(__u32 *ticks, __u64 first, __u64 last, __u32 now)
{
	do {
		if (snapbak_load_relaxed(&ticks[first]) != now)
			snapbak_store_relaxed(&ticks[first], now);
	} while (first++ < last);
}

/**
 * snapbak_heat_publish() - copy the table to the library, while writes go on.
 * @shm: the header; it has a heat area.
 * @area: where that is.
 * @ticks: the driver's own table.
 * @nr: regions, by the driver's own account.
 * @now: this tick, not 0.
 *
 * Context: any; does not sleep. Time linear in @nr.
 */
static inline void snapbak_heat_publish(struct snapbak_shm *shm, __u32 *area, const __u32 *ticks,
					__u32 nr, __u32 now)
{
	__u32 i;

	for (i = 0; i < nr; i++)
		snapbak_store_relaxed(&area[i], snapbak_load_relaxed(&ticks[i]));
	snapbak_store_release(&shm->heat_now, now);
}

#endif /* SNAPBAK_HEAT_H */
