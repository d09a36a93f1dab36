// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * snapbak_slots.c - take, give back and publish slots.
 */
#include "snapbak_slots.h"

#include "snapbak_bitmap.h"

#ifdef __KERNEL__
#include <linux/errno.h>
#else
#include <errno.h>
#endif

static __u64 slot_bit(__u32 slot)
{
	return 1ULL << (slot % SNAPBAK_WORD_BITS);
}

/**
 * snapbak_slots_init() - every slot is with the driver.
 * @s: with events, returned, free (@nr entries) and with_library (zeroed words for @nr bits) set.
 * @nr: number of slots.
 *
 * Context: any; does not sleep. Before anybody else sees @s.
 */
void snapbak_slots_init(struct snapbak_slots *s, __u32 nr)
{
	__u32 i;

	s->nr = nr;
	s->nr_free = nr;
	s->reserved = 0;
	for (i = 0; i < nr; i++)
		s->free[i] = nr - 1 - i;
}

/* Takes returned slots off the ring. 0, or -EPROTO for a slot that the library does not have. */
static int collect(struct snapbak_slots *s)
{
	__s64 ready = snapbak_ring_ready(&s->returned);
	__u32 i;

	if (ready < 0)
		return -EPROTO;
	if (ready > SNAPBAK_SLOTS_COLLECT)
		ready = SNAPBAK_SLOTS_COLLECT;
	for (i = 0; i < ready; i++) {
		__u32 slot = snapbak_ring_get_slot(&s->returned, i);

		if (slot >= s->nr || !(s->with_library[slot / SNAPBAK_WORD_BITS] & slot_bit(slot)))
			return -EPROTO;
		s->with_library[slot / SNAPBAK_WORD_BITS] &= ~slot_bit(slot);
		s->free[s->nr_free++] = slot;
	}
	if (ready)
		snapbak_ring_release(&s->returned, (__u32)ready);
	return 0;
}

/**
 * snapbak_slots_take() - take free slots, with as many places in the event ring.
 * @s: the slots.
 * @want: how many at most, 1 or more.
 * @out: room for @want numbers.
 *
 * Context: any; does not sleep; under the caller's lock.
 * Return: how many were taken, 0 if none is free, -EPROTO if the library wrote rubbish.
 */
int snapbak_slots_take(struct snapbak_slots *s, __u32 want, __u32 *out)
{
	__u32 take = want;
	__s64 room;
	__u32 i;

	if (s->nr_free < want && collect(s))
		return -EPROTO;
	room = snapbak_ring_room(&s->events);
	/* the library only ever makes more room, so less than was reserved is rubbish */
	if (room < (__s64)s->reserved)
		return -EPROTO;
	if (take > s->nr_free)
		take = s->nr_free;
	if (take > room - s->reserved)
		take = (__u32)(room - s->reserved);
	for (i = 0; i < take; i++)
		out[i] = s->free[--s->nr_free];
	s->reserved += take;
	return (int)take;
}

/**
 * snapbak_slots_put_back() - give back slots that were not used, with their event places.
 * @s: the slots.
 * @slots: their numbers.
 * @count: how many.
 *
 * Context: any; does not sleep; under the caller's lock.
 */
void snapbak_slots_put_back(struct snapbak_slots *s, const __u32 *slots, __u32 count)
{
	__u32 i;

	for (i = 0; i < count; i++)
		s->free[s->nr_free++] = slots[i];
	s->reserved -= count;
}

/**
 * snapbak_slots_publish() - publish events for which places were taken.
 * @s: the slots.
 * @events: CAPTURED or INVALID, each with its slot; an INVALID one's is free again afterwards.
 * @count: how many.
 *
 * Context: any; does not sleep; under the caller's lock.
 */
void snapbak_slots_publish(struct snapbak_slots *s, struct snapbak_event *events, __u32 count)
{
	__u32 i;

	for (i = 0; i < count; i++) {
		struct snapbak_event *event = &events[i];

		if (event->type == SNAPBAK_EVENT_CAPTURED) {
			s->with_library[event->slot / SNAPBAK_WORD_BITS] |= slot_bit(event->slot);
		} else {
			s->free[s->nr_free++] = event->slot;
			event->slot = 0;
		}
		snapbak_ring_put_event(&s->events, i, event);
	}
	s->reserved -= count;
	snapbak_ring_publish(&s->events, count);
}

/**
 * snapbak_slots_try_publish() - publish an event that has no slot.
 * @s: the slots.
 * @event: WANTED.
 *
 * Context: any; does not sleep; under the caller's lock.
 * Return: 1, or 0 if the ring has no room beside the places that are taken.
 */
int snapbak_slots_try_publish(struct snapbak_slots *s, const struct snapbak_event *event)
{
	if (snapbak_ring_room(&s->events) <= (__s64)s->reserved)
		return 0;
	snapbak_ring_put_event(&s->events, 0, event);
	snapbak_ring_publish(&s->events, 1);
	return 1;
}

/**
 * snapbak_slots_available() - how many could be taken now.
 * @s: the slots.
 *
 * Context: any; does not sleep; under the caller's lock.
 * Return: the number, or -EPROTO if the library wrote rubbish.
 */
int snapbak_slots_available(struct snapbak_slots *s)
{
	__s64 room;

	if (collect(s))
		return -EPROTO;
	room = snapbak_ring_room(&s->events);
	if (room < (__s64)s->reserved)
		return -EPROTO;
	room -= s->reserved;
	return (int)(room < s->nr_free ? room : s->nr_free);
}
