/* SPDX-License-Identifier: MIT */
/*
 * range-lock.h - one request at a time over a sector, any number over a block.
 *
 * Overlapping writes leave a device in a state that no model can tell; writes
 * beside each other in one block are what the driver must get right.
 */
#ifndef GUEST_RANGE_LOCK_H
#define GUEST_RANGE_LOCK_H

#include <linux/types.h>
#include <pthread.h>

#define RANGE_LOCK_HOLDERS 64

struct range_lock {
	pthread_mutex_t mutex;
	pthread_cond_t left;
	struct {
		__u64 first, end; /* empty: nobody's */
	} held[RANGE_LOCK_HOLDERS];
};

void range_lock_init(struct range_lock *lock);

/* @holder: 0 to RANGE_LOCK_HOLDERS - 1, one range each. Waits while another holds a part of it. */
void range_lock_take(struct range_lock *lock, unsigned int holder, __u64 first, __u64 end);
void range_lock_leave(struct range_lock *lock, unsigned int holder);

#endif /* GUEST_RANGE_LOCK_H */
