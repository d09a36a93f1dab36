/* SPDX-License-Identifier: MIT */
/*
 * chaos-check.h - the judgement over a session of the chaos.
 */
#ifndef GUEST_CHAOS_CHECK_H
#define GUEST_CHAOS_CHECK_H

#include "chaos-faults.h"
#include "contents.h"

/* What writers did during a session, and what was there before. */
struct record {
	const __u32 *initial; /* generations */
	struct history history, failed;
};

/*
 * The origin holds every acknowledged write; a sector of requests that failed
 * holds what the last one that did not, or one of them, left there, and that is
 * what @contents says afterwards.
 * Return: how many sectors are wrong.
 */
__u64 check_origin(struct contents *contents, const char *path, const struct record *record);

/*
 * A complete backup is what the origin held at its instant, but for blocks that
 * it calls invalid, and sectors of requests that failed.
 * Return: how many sectors are wrong.
 */
__u64 check_image(const struct contents *contents, const char *path, __u32 block_shift,
		  const struct consumer_page *page, struct record *record);

/* Dies unless something in the plan explains how the session ended. */
void check_outcome(const struct victim *victim);

#endif /* GUEST_CHAOS_CHECK_H */
