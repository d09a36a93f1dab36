// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * snapbak_throttle.c - the delay curve.
 *
 * With x = (used - begin) / (full - begin), from 0 to 1, and T = the time that
 * the drain needs for one block, the delay is T * x^2 / (1 - x): nothing at
 * the watermark and flat there, T / 2 half way, without bound towards full,
 * cut at max_us. Where it equals T times the number of writers, captures come
 * in as fast as the drain takes them out, and the fill stands still: the more
 * writers, the higher it settles. Kin of the kernel's dirty throttling
 * (mm/page-writeback.c), which also scales a measured rate by the distance
 * from a set point.
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
 * snapbak_throttle_delay_us() - the delay of one write that needs a capture.
 * @t: the setting; any values, they come from shared memory.
 * @used: slots in use.
 *
 * Grows with @used, falls with the rate, never above max_us nor above
 * SNAPBAK_THROTTLE_CEILING_US. 0 below the watermark, and always where the
 * setting makes no sense. An unknown rate counts as a very slow one.
 *
 * Context: any; does not sleep. No overflow for any input.
 * Return: microseconds.
 */
__u32 snapbak_throttle_delay_us(const struct snapbak_throttle *t, __u32 used)
{
	__u32 max_us = t->max_us < SNAPBAK_THROTTLE_CEILING_US ? t->max_us : SNAPBAK_THROTTLE_CEILING_US;
	__u64 span, above, per_block_us, delay;

	if (!t->begin || t->full <= t->begin || used <= t->begin)
		return 0;
	if (used >= t->full)
		return max_us;

	span = t->full - t->begin;
	above = used - t->begin;
	/* hostile sizes keep their ratio and lose their low bits: at most 2^20 from here on */
	while (span >> 20) {
		span >>= 1;
		above >>= 1;
	}
	if (above >= span)
		return max_us;

	/* at most 2^32 * 10^6 before the division */
	per_block_us = div64_u64((__u64)t->block_size * 1000000u, t->rate ? t->rate : 1);
	if (per_block_us > SNAPBAK_THROTTLE_CEILING_US)
		per_block_us = SNAPBAK_THROTTLE_CEILING_US;

	/* x^2 / (1 - x) = above^2 / (span * (span - above)), scaled by 2^10 between */
	delay = div64_u64((above << 10) * above, span);
	/* delay < 2^30, times 10^6 < 2^50 */
	delay = div64_u64(delay * per_block_us, (span - above) << 10);
	return delay < max_us ? (__u32)delay : max_us;
}
