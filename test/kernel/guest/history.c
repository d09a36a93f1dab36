// SPDX-License-Identifier: MIT
#include "history.h"

#include "stamp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHOWN 8
#define NEVER (~0ULL)

/* A sector on its way through the chain of its contents. */
struct chain {
	__u32 generation; /* the content until now */
	__u64 since; /* when it was submitted */
	__u64 from, until; /* when the image's content was legal; from NEVER: never yet */
	__u32 matches; /* how many links of the chain hold the image's content */
	__u8 in_window; /* legal at some time of START */
	__u8 at_claimed; /* legal at the driver's instant */
};

void history_add(struct history *history, const struct history_entry *entry)
{
	if (history->count == history->room) {
		history->room = history->room ? 2 * history->room : 1024;
		history->entries = realloc(history->entries, history->room * sizeof(*entry));
		if (!history->entries)
			die("no memory for %zu requests", history->room);
	}
	history->entries[history->count++] = *entry;
}

void history_merge(struct history *history, struct history *from)
{
	size_t i;

	for (i = 0; i < from->count; i++)
		history_add(history, &from->entries[i]);
	from->count = 0;
}

void history_release(struct history *history)
{
	free(history->entries);
	*history = (struct history){ 0 };
}

static int by_submission(const void *a, const void *b)
{
	const struct history_entry *x = a, *y = b;

	return (x->submitted > y->submitted) - (x->submitted < y->submitted);
}

/* The content of @chain was replaced by a request that was acknowledged at @until. */
static void end_link(struct chain *chain, __s64 image, __u64 until, const struct history_instant *instant)
{
	if (image != chain->generation)
		return;
	chain->matches++;
	chain->from = chain->since;
	chain->until = until;
	chain->in_window |= chain->since <= instant->returned && until >= instant->called;
	chain->at_claimed |= chain->since <= instant->claimed && until >= instant->claimed;
}

static struct chain *follow(struct history *history, const __u32 *initial, const __s64 *image, __u64 sectors,
			    const struct history_instant *instant)
{
	struct chain *chains = allocate(sectors * sizeof(*chains));
	size_t i;
	__u64 s;

	for (s = 0; s < sectors; s++)
		chains[s].generation = initial[s];
	qsort(history->entries, history->count, sizeof(*history->entries), by_submission);
	for (i = 0; i < history->count; i++) {
		const struct history_entry *entry = &history->entries[i];

		for (s = entry->first; s < entry->first + entry->count; s++) {
			end_link(&chains[s], image[s], entry->acknowledged, instant);
			chains[s].generation = entry->generation;
			chains[s].since = entry->submitted;
		}
	}
	for (s = 0; s < sectors; s++)
		end_link(&chains[s], image[s], NEVER, instant);
	return chains;
}

/* Milliseconds from START's call, for people. */
static double since_call(__u64 t, const struct history_instant *instant)
{
	return t == NEVER ? 1e9 : ((double)t - (double)instant->called) / 1e6;
}

static void tell(const struct history *history, __u64 sector, const char *what, __s64 image, __u32 initial,
		 const struct history_instant *instant)
{
	size_t i;

	fprintf(stderr, "sector %llu: the image holds generation %lld: %s. Before: %u;", sector, image, what, initial);
	for (i = 0; i < history->count; i++) {
		const struct history_entry *entry = &history->entries[i];

		if (sector >= entry->first && sector < entry->first + entry->count)
			fprintf(stderr, " %u [%.3f, %.3f]", entry->generation, since_call(entry->submitted, instant),
				since_call(entry->acknowledged, instant));
	}
	fprintf(stderr, " (ms from the call of START; it returned at %.3f, the instant is %.3f)\n",
		since_call(instant->returned, instant), since_call(instant->claimed, instant));
}

static const char *fault_of(const struct chain *chain, __s64 image, const struct history_instant *instant)
{
	if (image == STAMP_RUBBISH)
		return "no stamp of this sector";
	if (!chain->matches)
		return "which it never held";
	if (!chain->in_window)
		return chain->matches > 1 ? "at the wrong time" :
		       chain->from > instant->returned ? "which was written after the start" :
							 "which was replaced before the start";
	if (!chain->at_claimed)
		return "which does not fit the instant that the driver claims";
	return NULL;
}

__u64 history_check(struct history *history, const __u32 *initial, const __s64 *image, __u64 sectors,
		    const struct history_instant *instant)
{
	struct chain *chains = follow(history, initial, image, sectors, instant);
	__u64 latest_begin = 0, first_end = NEVER, begin_sector = 0, end_sector = 0, wrong = 0, s;

	for (s = 0; s < sectors; s++) {
		const char *what;

		if (image[s] == HISTORY_UNCHECKED)
			continue;
		what = fault_of(&chains[s], image[s], instant);
		if (what && wrong++ < SHOWN)
			tell(history, s, what, image[s], initial[s], instant);
		if (chains[s].matches != 1)
			continue;
		if (chains[s].from > latest_begin) {
			latest_begin = chains[s].from;
			begin_sector = s;
		}
		if (chains[s].until < first_end) {
			first_end = chains[s].until;
			end_sector = s;
		}
	}
	if (latest_begin > first_end) {
		fprintf(stderr,
			"no single instant: the image has a write of sector %llu submitted at %.3f ms, but lacks one of sector %llu acknowledged at %.3f ms\n",
			begin_sector, since_call(latest_begin, instant), end_sector, since_call(first_end, instant));
		wrong++;
	}
	if (instant->claimed < instant->called || instant->claimed > instant->returned) {
		fprintf(stderr, "the instant that the driver claims is %.3f ms from the call of START, which returned at %.3f\n",
			since_call(instant->claimed, instant), since_call(instant->returned, instant));
		wrong++;
	}
	free(chains);
	return wrong;
}
