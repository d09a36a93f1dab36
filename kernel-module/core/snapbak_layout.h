/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_layout.h - where the areas of the shared memory lie.
 *
 * Computed by the driver at SETUP, checked by the library after it has mapped.
 */
#ifndef SNAPBAK_LAYOUT_H
#define SNAPBAK_LAYOUT_H

#include "snapbak_bitmap.h"
#include "snapbak_ring.h"

#ifdef __cplusplus
extern "C" {
#endif

int snapbak_layout_compute(struct snapbak_shm *shm, __u64 origin_size, __u32 block_shift,
			   __u32 nr_slots, __u32 flags);
#ifndef __KERNEL__
int snapbak_layout_check(const struct snapbak_shm *shm, __u64 map_size);
#endif

#ifdef __cplusplus
}
#endif

#endif /* SNAPBAK_LAYOUT_H */
