/* SPDX-License-Identifier: MIT */
/*
 * chaos-consumer.h - the library of a session of the chaos, in a process of its
 * own that may be stopped and killed.
 *
 * It copies by the rules to a target, syncs it, finishes, and says what became
 * of it on a page that outlives it. It is complete only when it says so there.
 */
#ifndef GUEST_CHAOS_CONSUMER_H
#define GUEST_CHAOS_CONSUMER_H

#include "chaos-plan.h"
#include "history.h"

#include <sys/types.h>

#define CONSUMER_MAX_BLOCKS 16384

enum consumer_outcome {
	OUTCOME_NONE, /* it was killed, or left without a word */
	OUTCOME_COMPLETE,
	OUTCOME_BROKEN, /* by the driver; error and reason say why */
	OUTCOME_TARGET, /* its target failed with error */
	OUTCOME_GAVE_UP, /* by order */
	OUTCOME_SPOILT, /* it had written rubbish: whatever came out is no backup */
	OUTCOME_FAULT, /* the driver broke the rules; text says how */
	OUTCOMES
};

extern const char *const outcome_names[OUTCOMES];

enum consumer_order { ORDER_NONE, ORDER_EXIT, ORDER_ABORT, ORDER_CLOSE, ORDER_RUBBISH, ORDER_REQUESTS };

/* Shared by the consumer and whoever watches it, who writes the last three. */
struct consumer_page {
	__u32 outcome; /* enum consumer_outcome */
	int error;
	__u32 reason; /* enum snapbak_reason */
	char text[200];
	__u32 armed;
	struct history_instant instant;
	__u64 listed, done; /* blocks */
	__u64 arm_ns;
	struct copy_counts counts;
	__u64 counters[SNAPBAK_NR_COUNTERS];
	__u8 blocks[CONSUMER_MAX_BLOCKS]; /* enum copy_block, once it is complete */
	__u32 go;
	__u32 order; /* enum consumer_order; taken */
	__u32 rubbish; /* enum rubbish_kind */
};

/* A page for any number of consumers, one after the other. */
struct consumer_page *consumer_page_create(void);

/* It begins with page->go. */
pid_t consumer_start(struct consumer_page *page, const struct plan *plan, const char *origin, const char *target);

void consumer_order(struct consumer_page *page, enum consumer_order order);

#endif /* GUEST_CHAOS_CONSUMER_H */
