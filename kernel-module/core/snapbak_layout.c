// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * snapbak_layout.c - compute and check the layout of the shared memory.
 */
#include "snapbak_layout.h"
#include "snapbak_heat.h"

#ifdef __KERNEL__
#include <linux/errno.h>
#else
#include <errno.h>
#endif

/* 2^62: sums of areas cannot overflow below it. */
#define SNAPBAK_MAX_ORIGIN (1ULL << 62)

static __u64 page_up(__u64 n)
{
	return (n + SNAPBAK_PAGE - 1) & ~(__u64)(SNAPBAK_PAGE - 1);
}

static __u32 pow2_up(__u32 n)
{
	__u32 p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

/**
 * snapbak_layout_compute() - fill the fixed group of the header.
 * @shm: a header; only sizes, counts and offsets are written.
 * @origin_size: bytes of the origin, at least 1.
 * @block_shift: SNAPBAK_MIN_BLOCK_SHIFT to SNAPBAK_MAX_BLOCK_SHIFT.
 * @nr_slots: 1 to SNAPBAK_MAX_SLOTS.
 * @flags: SNAPBAK_SETUP_HEAT, or 0.
 *
 * The event ring has room for an event of every slot twice over and 256 more,
 * so that a library that takes its events never fills it by captures alone.
 *
 * Context: any; does not sleep.
 * Return: 0, or -EINVAL.
 */
int snapbak_layout_compute(struct snapbak_shm *shm, __u64 origin_size, __u32 block_shift,
			   __u32 nr_slots, __u32 flags)
{
	__u64 at = SNAPBAK_PAGE;

	if (!origin_size || origin_size > SNAPBAK_MAX_ORIGIN)
		return -EINVAL;
	if (block_shift < SNAPBAK_MIN_BLOCK_SHIFT || block_shift > SNAPBAK_MAX_BLOCK_SHIFT)
		return -EINVAL;
	if (!nr_slots || nr_slots > SNAPBAK_MAX_SLOTS)
		return -EINVAL;
	if (flags & ~SNAPBAK_SETUP_HEAT)
		return -EINVAL;

	shm->origin_size = origin_size;
	shm->block_shift = block_shift;
	shm->nr_blocks = ((origin_size - 1) >> block_shift) + 1;
	shm->nr_slots = nr_slots;
	shm->nr_events = pow2_up(2 * nr_slots + 256);
	shm->nr_free = pow2_up(nr_slots);

	shm->bitmap_off = at;
	at += page_up(snapbak_bitmap_words(shm->nr_blocks) * sizeof(__u64));
	shm->event_off = at;
	at += page_up((__u64)shm->nr_events * sizeof(struct snapbak_event));
	shm->free_off = at;
	at += page_up((__u64)shm->nr_free * sizeof(__u32));
	shm->heat_off = 0;
	shm->heat_shift = 0;
	shm->nr_heat = 0;
	if (flags & SNAPBAK_SETUP_HEAT) {
		shm->heat_off = at;
		shm->heat_shift = snapbak_heat_shift(origin_size);
		shm->nr_heat = snapbak_heat_regions(origin_size);
		at += page_up((__u64)shm->nr_heat * sizeof(__u32));
	}
	shm->slots_off = at;
	at += (__u64)nr_slots << block_shift;
	shm->map_size = at;
	return 0;
}

#ifndef __KERNEL__ /* the library's half, and a page of stack */

/**
 * snapbak_layout_check() - is a mapped header what its own numbers say?
 * @shm: the header as mapped.
 * @map_size: bytes that are mapped.
 *
 * Context: any; does not sleep.
 * Return: 0, -EPROTO for rubbish, -EPROTONOSUPPORT for another version.
 */
int snapbak_layout_check(const struct snapbak_shm *shm, __u64 map_size)
{
	struct snapbak_shm want;

	if (map_size < SNAPBAK_PAGE || shm->magic != SNAPBAK_MAGIC)
		return -EPROTO;
	if (shm->abi_version != SNAPBAK_ABI_VERSION)
		return -EPROTONOSUPPORT;
	if (snapbak_layout_compute(&want, shm->origin_size, shm->block_shift, shm->nr_slots,
				   shm->heat_off ? SNAPBAK_SETUP_HEAT : 0))
		return -EPROTO;
	if (want.map_size != shm->map_size || want.map_size != map_size ||
	    want.nr_blocks != shm->nr_blocks ||
	    want.nr_events != shm->nr_events || want.nr_free != shm->nr_free ||
	    want.bitmap_off != shm->bitmap_off || want.event_off != shm->event_off ||
	    want.free_off != shm->free_off || want.slots_off != shm->slots_off ||
	    want.heat_off != shm->heat_off || want.heat_shift != shm->heat_shift ||
	    want.nr_heat != shm->nr_heat)
		return -EPROTO;
	return 0;
}

#endif /* __KERNEL__ */
