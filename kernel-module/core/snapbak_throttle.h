/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_throttle.h - at which pace writes that need a capture go on.
 *
 * Pure functions of the fill and of the measured drain rate, so that both
 * drivers slow writers down alike and tests can look at the whole curve.
 */
#ifndef SNAPBAK_THROTTLE_H
#define SNAPBAK_THROTTLE_H

#include "snapbak_atomic.h"

#ifdef __cplusplus
extern "C" {
#endif

/* No delay is ever longer, whatever the library asks for. */
#define SNAPBAK_THROTTLE_CEILING_US 1000000u

struct snapbak_throttle {
	__u32 begin; /* slots in use above which writes are delayed; 0: never */
	__u32 full; /* slots in use that count as full */
	__u64 rate; /* drain rate, bytes a second; 0: unknown */
	__u32 max_us; /* ceiling of one delay, microseconds */
	__u32 block_size; /* bytes that one capture takes */
};

__u32 snapbak_throttle_interval_us(const struct snapbak_throttle *t, __u32 used);
__u64 snapbak_throttle_depart_ns(__u64 *next, __u64 now, __u32 interval_us, __u64 blocks,
				 __u32 max_us);

#ifdef __cplusplus
}
#endif

#endif /* SNAPBAK_THROTTLE_H */
