/* SPDX-License-Identifier: MIT */
/*
 * chaos-plan.h - one session of the chaos, drawn from its number: geometry,
 * policy, speed, and what befalls it when.
 *
 * The same seed and number give the same plan; how writers, consumer and faults
 * meet in it is up to the machine.
 */
#ifndef GUEST_CHAOS_PLAN_H
#define GUEST_CHAOS_PLAN_H

#include "chaos-stack.h"
#include "copy.h"
#include "rubbish.h"

enum fault_kind {
	/* the consumer */
	FAULT_KILL, /* SIGKILL */
	FAULT_STOP, /* SIGSTOP for a moment */
	FAULT_STALL, /* SIGSTOP until the driver gives it up */
	FAULT_EXIT, /* leaves without a word */
	FAULT_ABORT,
	FAULT_CLOSE, /* closes its descriptor, then takes the mapping away */
	FAULT_RUBBISH, /* writes rubbish into bitmap, rings, header */
	FAULT_SIGNALS, /* is interrupted again and again */
	FAULT_REQUESTS, /* requests that make no sense, its own and others' */
	/* the origin's table */
	FAULT_SUSPEND,
	FAULT_RELOAD,
	FAULT_REPLACE,
	FAULT_BREAK, /* dmsetup message */
	/* under the origin */
	FAULT_ORIGIN_SLOW,
	FAULT_ORIGIN_ERRORS,
	FAULT_ORIGIN_BAD_PART,
	FAULT_ORIGIN_UNREADABLE,
	FAULT_ORIGIN_UNWRITABLE,
	FAULT_ORIGIN_FLAKEY,
	/* under the image */
	FAULT_TARGET_SLOW,
	FAULT_TARGET_ERRORS,
	FAULT_TARGET_BAD_PART,
	FAULT_TARGET_FULL, /* a file system without room */
	FAULT_KINDS
};

/* Of these, one at a time. */
enum fault_place { PLACE_CONSUMER, PLACE_STORM, PLACE_TABLE, PLACE_LOWER, PLACE_TARGET, PLACES };

extern const char *const fault_names[FAULT_KINDS];

struct fault {
	enum fault_kind kind;
	int at; /* when so many per cent are copied; below 0: so many ms after it began to begin */
	unsigned int for_ms;
	struct weather weather;
	enum rubbish_kind rubbish;
};

#define PLAN_FAULTS 5

struct plan {
	__u64 seed, number;
	struct session_geometry geometry;
	struct copy_options copy;
	__u64 throttle_rate; /* 0: none */
	int list_all;
	unsigned int threads;
	unsigned int nr_faults;
	struct fault faults[PLAN_FAULTS]; /* without any it must become a backup */
};

struct plan plan_draw(__u64 seed, __u64 number, __u64 sectors);

int plan_has(const struct plan *plan, enum fault_kind kind);

/* Requests of the writers may fail. */
int plan_fails_origin(const struct plan *plan);

enum fault_place fault_place(enum fault_kind kind);

/* Marks the same blocks each time. */
void plan_list(const struct plan *plan, struct copy *copy);

/*
 * How long the driver may keep a write, in ns, if nothing but the consumer is
 * in its way; @longest: bytes of a request at most.
 */
__u64 plan_patience_ns(const struct plan *plan, __u64 longest);

/* As members of a JSON object. */
void plan_print(const struct plan *plan);

#endif /* GUEST_CHAOS_PLAN_H */
