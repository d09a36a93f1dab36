/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_throttle.h - how long a write that needs a capture is delayed.
 *
 * A pure function of the fill and of the measured drain rate, so that both
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
	__u32 begin; /* slots in use at which delays begin; 0: never */
	__u32 full; /* slots in use that count as full */
	__u64 rate; /* drain rate, bytes a second; 0: unknown */
	__u32 max_us; /* ceiling of one delay, microseconds */
	__u32 block_size; /* bytes that one capture takes */
};

__u32 snapbak_throttle_delay_us(const struct snapbak_throttle *t, __u32 used);

#ifdef __cplusplus
}
#endif

#endif /* SNAPBAK_THROTTLE_H */
