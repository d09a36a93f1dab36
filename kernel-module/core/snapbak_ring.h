/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_ring.h - the two rings: events to the library, free slots to the driver.
 *
 * Each ring has one producer and one consumer at a time; whoever may have
 * several threads serialises them itself. A side keeps its own position in
 * private memory and only publishes it: what it reads back from shared memory
 * is the other side's word, and is checked. Positions run freely and wrap.
 */
#ifndef SNAPBAK_RING_H
#define SNAPBAK_RING_H

#include "snapbak_atomic.h"

#ifdef __KERNEL__
#include <uapi/linux/snapbak.h>
#else
#include "../include/uapi/linux/snapbak.h"
#endif

/* A ring as one side sees it. Zero-initialise, then fill the first four. */
struct snapbak_ring {
	__u32 *head; /* in shared memory: the producer's position */
	__u32 *tail; /* in shared memory: the consumer's position */
	void *entries;
	__u32 nr; /* entries, a power of two */
	__u32 mine; /* our own position; the truth, whatever shared memory says */
};

/**
 * snapbak_ring_room() - entries that the producer may still write.
 * @ring: the producer's view.
 *
 * Return: 0 to nr, or -1 if the consumer published an impossible position.
 */
static inline __s64 snapbak_ring_room(const struct snapbak_ring *ring)
{
	__u32 used = ring->mine - snapbak_load_acquire(ring->tail);

	return used > ring->nr ? -1 : (__s64)(ring->nr - used);
}

/**
 * snapbak_ring_ready() - entries that the consumer may read.
 * @ring: the consumer's view.
 *
 * Return: 0 to nr, or -1 if the producer published an impossible position.
 */
static inline __s64 snapbak_ring_ready(const struct snapbak_ring *ring)
{
	__u32 ready = snapbak_load_acquire(ring->head) - ring->mine;

	return ready > ring->nr ? -1 : (__s64)ready;
}

/* The entry @ahead places from our position, as an index. */
static inline __u32 snapbak_ring_index(const struct snapbak_ring *ring, __u32 ahead)
{
	return (ring->mine + ahead) & (ring->nr - 1);
}

/* The producer publishes @n written entries. */
static inline void snapbak_ring_publish(struct snapbak_ring *ring, __u32 n)
{
	ring->mine += n;
	snapbak_store_release(ring->head, ring->mine);
}

/* The consumer gives @n read entries back. */
static inline void snapbak_ring_release(struct snapbak_ring *ring, __u32 n)
{
	ring->mine += n;
	snapbak_store_release(ring->tail, ring->mine);
}

/* Writes one event; the caller has seen room for it. Not published yet. */
static inline void snapbak_ring_put_event(struct snapbak_ring *ring, __u32 ahead,
					  const struct snapbak_event *event)
{
	((struct snapbak_event *)ring->entries)[snapbak_ring_index(ring, ahead)] = *event;
}

/* Copies one event out before anything of it is looked at. */
static inline struct snapbak_event snapbak_ring_get_event(const struct snapbak_ring *ring,
							  __u32 ahead)
{
	__u32 index = snapbak_ring_index(ring, ahead);
	struct snapbak_event *e = (struct snapbak_event *)ring->entries + index;
	struct snapbak_event copy;

	copy.block = snapbak_load_relaxed(&e->block);
	copy.slot = snapbak_load_relaxed(&e->slot);
	copy.type = snapbak_load_relaxed(&e->type);
	copy.error = snapbak_load_relaxed(&e->error);
	return copy;
}

static inline void snapbak_ring_put_slot(struct snapbak_ring *ring, __u32 ahead, __u32 slot)
{
	snapbak_store_relaxed((__u32 *)ring->entries + snapbak_ring_index(ring, ahead), slot);
}

static inline __u32 snapbak_ring_get_slot(const struct snapbak_ring *ring, __u32 ahead)
{
	return snapbak_load_relaxed((__u32 *)ring->entries + snapbak_ring_index(ring, ahead));
}

#endif /* SNAPBAK_RING_H */
