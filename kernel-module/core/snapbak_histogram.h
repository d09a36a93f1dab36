/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_histogram.h - which bucket of a histogram a time belongs to.
 *
 * A bucket a power of two, as snapbak.h lays them out: no table, no division but
 * by a constant, and a percentile that is off by less than a factor of two.
 * Whoever counts adds one to the bucket, under a lock or by an atomic addition.
 */
#ifndef SNAPBAK_HISTOGRAM_H
#define SNAPBAK_HISTOGRAM_H

#ifdef __KERNEL__
#include <uapi/linux/snapbak.h>
#else
#include "../include/uapi/linux/snapbak.h"
#endif

#include "snapbak_atomic.h"

/* The bucket of a time in nanoseconds. */
static inline unsigned int snapbak_histogram_bucket(__u64 ns)
{
	/* microseconds begun, less one: bucket i has those of i bits */
	unsigned int bucket = snapbak_bit_length(ns ? (ns - 1) / 1000 : 0);

	return bucket < SNAPBAK_HISTOGRAM_BUCKETS ? bucket : SNAPBAK_HISTOGRAM_BUCKETS - 1;
}

#endif /* SNAPBAK_HISTOGRAM_H */
