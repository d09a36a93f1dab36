/* SPDX-License-Identifier: MIT */
/*
 * history.h - what was written when, and whether an image can be one instant of it.
 *
 * Each writer logs its requests with the times around them. Requests over the
 * same sector never overlap in time (range-lock.h), so each sector has a chain
 * of contents, and a content is legal at an instant t if its request was
 * submitted before t and the one that replaced it was not acknowledged before t.
 * One t must do for all sectors of all origins of a session.
 */
#ifndef GUEST_HISTORY_H
#define GUEST_HISTORY_H

#include <linux/types.h>
#include <stddef.h>

struct history_entry {
	__u64 first, count; /* sectors */
	__u32 generation; /* that they hold afterwards; 0: zeroes */
	__u64 submitted, acknowledged; /* CLOCK_MONOTONIC, ns */
};

/* One writer's log; any number are put together for the check. */
struct history {
	struct history_entry *entries;
	size_t count, room;
};

void history_add(struct history *history, const struct history_entry *entry);

/* Appends @from to @history and empties @from. */
void history_merge(struct history *history, struct history *from);
void history_release(struct history *history);

struct history_instant {
	__u64 called, returned; /* around START */
	__u64 claimed; /* the instant by the driver's word: start_monotonic_ns */
};

/*
 * @initial: generation of each sector before the first entry. @image: generation
 * of each sector of the image, STAMP_RUBBISH for none; -2 for a sector that is
 * not to be checked. Prints what is wrong.
 * Return: the number of sectors that cannot be, plus one if no single instant explains the others.
 */
__u64 history_check(struct history *history, const __u32 *initial, const __s64 *image, __u64 sectors,
		    const struct history_instant *instant);

#define HISTORY_UNCHECKED (-2)

#endif /* GUEST_HISTORY_H */
