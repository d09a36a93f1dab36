// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * snapbak_throttle.c - at which pace captures go on.
 *
 * With x = (used - begin) / (full - begin), from 0 to 1, and T = the time that
 * the drain needs for one block, captures leave no sooner than T * x^2 / (1 - x)
 * after each other: at once at the watermark and flat there, T / 2 half way, T
 * at x = 0.62. There they come in as fast as the drain takes them out, and the
 * fill stands still, however many writers there are: they queue, and each waits
 * its turn. Kin of the kernel's dirty throttling (mm/page-writeback.c), which
 * also scales a measured rate by the distance from a set point.
 *
 * Each write by itself, delayed by a function of the fill, would not do: some
 * come when it is nearly full and wait the longest time, while others pass.
 */
#include "snapbak_throttle.h"

#ifdef __KERNEL__
#include <linux/math64.h>
#else
static inline __u64 div64_u64(__u64 a, __u64 b)
{
	return a / b;
}
#endif

/**
 * snapbak_throttle_interval_us() - the time between two captures.
 * @t: the setting; any values, they come from shared memory.
 * @used: slots in use.
 *
 * Grows with @used, falls with the rate, never above max_us, nor above
 * SNAPBAK_THROTTLE_CEILING_US, nor above 1.5 T: that is enough for the fill to
 * fall, and who queues while it is full waits little longer than others. 0
 * below the watermark, and always where the setting makes no sense. An unknown
 * rate counts as a very slow one.
 *
 * Context: any; does not sleep. No overflow for any input.
 * Return: microseconds.
 */
__u32 snapbak_throttle_interval_us(const struct snapbak_throttle *t, __u32 used)
{
	__u64 span, above, per_block_us, longest, interval;

	if (!t->begin || t->full <= t->begin || used <= t->begin)
		return 0;
	/* at most 2^32 * 10^6 before the division */
	per_block_us = div64_u64((__u64)t->block_size * 1000000u, t->rate ? t->rate : 1);
	if (per_block_us > SNAPBAK_THROTTLE_CEILING_US)
		per_block_us = SNAPBAK_THROTTLE_CEILING_US;
	longest = per_block_us + per_block_us / 2;
	if (longest > t->max_us)
		longest = t->max_us;
	if (longest > SNAPBAK_THROTTLE_CEILING_US)
		longest = SNAPBAK_THROTTLE_CEILING_US;
	if (used >= t->full)
		return longest;

	span = t->full - t->begin;
	above = used - t->begin;
	/* hostile sizes keep their ratio and lose their low bits: at most 2^20 from here on */
	while (span >> 20) {
		span >>= 1;
		above >>= 1;
	}
	if (above >= span)
		return longest;

	/* x^2 / (1 - x) = above^2 / (span * (span - above)), scaled by 2^10 between */
	interval = div64_u64((above << 10) * above, span);
	/* interval < 2^30, times 10^6 < 2^50 */
	interval = div64_u64(interval * per_block_us, (span - above) << 10);
	return interval < longest ? interval : longest;
}

/**
 * snapbak_throttle_depart_ns() - when a write may go on.
 * @next: when the write before it goes on; under the caller's lock.
 * @now: ns, by any clock.
 * @interval_us: for each block that it captures.
 * @blocks: how many.
 * @max_us: the longest that it may wait.
 *
 * Context: any; does not sleep.
 * Return: ns by the same clock; @now or before: at once.
 */
__u64 snapbak_throttle_depart_ns(__u64 *next, __u64 now, __u32 interval_us, __u64 blocks,
				 __u32 max_us)
{
	__u64 latest, depart;

	if (max_us > SNAPBAK_THROTTLE_CEILING_US)
		max_us = SNAPBAK_THROTTLE_CEILING_US;
	latest = now + (__u64)max_us * 1000;
	if (blocks > SNAPBAK_THROTTLE_CEILING_US)
		blocks = SNAPBAK_THROTTLE_CEILING_US;
	depart = (*next > now ? *next : now) + interval_us * blocks * 1000;
	if (depart > latest)
		depart = latest;
	*next = depart;
	return depart;
}
