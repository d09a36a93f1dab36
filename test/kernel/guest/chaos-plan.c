// SPDX-License-Identifier: MIT
#include "chaos-plan.h"

#include <stdio.h>

#define COPY_MS 700 /* so long does the sweep of a session take that is left alone */

const char *const fault_names[FAULT_KINDS] = {
	[FAULT_KILL] = "kill",
	[FAULT_STOP] = "stop",
	[FAULT_STALL] = "stall",
	[FAULT_EXIT] = "exit",
	[FAULT_ABORT] = "abort",
	[FAULT_CLOSE] = "close",
	[FAULT_RUBBISH] = "rubbish",
	[FAULT_SIGNALS] = "signals",
	[FAULT_REQUESTS] = "requests",
	[FAULT_SUSPEND] = "suspend",
	[FAULT_RELOAD] = "reload",
	[FAULT_REPLACE] = "replace",
	[FAULT_BREAK] = "break",
	[FAULT_ORIGIN_SLOW] = "originSlow",
	[FAULT_ORIGIN_ERRORS] = "originErrors",
	[FAULT_ORIGIN_BAD_PART] = "originBadPart",
	[FAULT_ORIGIN_UNREADABLE] = "originUnreadable",
	[FAULT_ORIGIN_UNWRITABLE] = "originUnwritable",
	[FAULT_ORIGIN_FLAKEY] = "originFlakey",
	[FAULT_TARGET_SLOW] = "targetSlow",
	[FAULT_TARGET_ERRORS] = "targetErrors",
	[FAULT_TARGET_BAD_PART] = "targetBadPart",
	[FAULT_TARGET_FULL] = "targetFull",
};

/* Those that end a session come less often, or nothing else would be met. */
static const unsigned int weights[FAULT_KINDS] = {
	[FAULT_KILL] = 3,	      [FAULT_STOP] = 6,		   [FAULT_STALL] = 5,
	[FAULT_EXIT] = 1,	      [FAULT_ABORT] = 2,	   [FAULT_CLOSE] = 2,
	[FAULT_RUBBISH] = 3,	      [FAULT_SIGNALS] = 4,	   [FAULT_REQUESTS] = 4,
	[FAULT_SUSPEND] = 6,	      [FAULT_RELOAD] = 2,	   [FAULT_REPLACE] = 2,
	[FAULT_BREAK] = 2,	      [FAULT_ORIGIN_SLOW] = 6,	   [FAULT_ORIGIN_ERRORS] = 3,
	[FAULT_ORIGIN_BAD_PART] = 4,  [FAULT_ORIGIN_UNREADABLE] = 6, [FAULT_ORIGIN_UNWRITABLE] = 4,
	[FAULT_ORIGIN_FLAKEY] = 3,    [FAULT_TARGET_SLOW] = 6,	   [FAULT_TARGET_ERRORS] = 2,
	[FAULT_TARGET_BAD_PART] = 2,  [FAULT_TARGET_FULL] = 1,
};

static const enum weather_kind weathers[FAULT_KINDS] = {
	[FAULT_ORIGIN_SLOW] = WEATHER_SLOW,
	[FAULT_ORIGIN_ERRORS] = WEATHER_ERRORS,
	[FAULT_ORIGIN_BAD_PART] = WEATHER_BAD_PART,
	[FAULT_ORIGIN_UNREADABLE] = WEATHER_UNREADABLE,
	[FAULT_ORIGIN_UNWRITABLE] = WEATHER_UNWRITABLE,
	[FAULT_ORIGIN_FLAKEY] = WEATHER_FLAKEY,
	[FAULT_TARGET_SLOW] = WEATHER_SLOW,
	[FAULT_TARGET_ERRORS] = WEATHER_ERRORS,
	[FAULT_TARGET_BAD_PART] = WEATHER_BAD_PART,
};

enum fault_place fault_place(enum fault_kind kind)
{
	if (kind == FAULT_SIGNALS || kind == FAULT_REQUESTS || kind == FAULT_BREAK)
		return PLACE_STORM;
	if (kind < FAULT_SUSPEND)
		return PLACE_CONSUMER;
	if (kind < FAULT_ORIGIN_SLOW)
		return PLACE_TABLE;
	return kind < FAULT_TARGET_SLOW ? PLACE_LOWER : PLACE_TARGET;
}

static enum fault_kind draw_kind(struct random *random)
{
	unsigned int sum = 0, drawn;
	enum fault_kind kind;

	for (kind = 0; kind < FAULT_KINDS; kind++)
		sum += weights[kind];
	drawn = (unsigned int)random_below(random, sum);
	for (kind = 0; drawn >= weights[kind]; kind++)
		drawn -= weights[kind];
	return kind;
}

static struct fault draw_fault(struct random *random, __u64 sectors)
{
	struct fault fault = {
		.kind = draw_kind(random),
		.at = (int)random_below(random, 90),
		.for_ms = 20 + (unsigned int)random_below(random, 500),
		.rubbish = (enum rubbish_kind)random_below(random, RUBBISH_KINDS),
	};

	fault.weather = (struct weather){
		.kind = weathers[fault.kind],
		.first = random_below(random, sectors - 1),
		.read_ms = (unsigned int)random_below(random, 30),
		.write_ms = (unsigned int)random_below(random, 30),
	};
	fault.weather.sectors = 1 + random_below(random, (sectors - fault.weather.first) / 4 + 1);
	if (fault.weather.kind == WEATHER_SLOW)
		fault.for_ms *= 3;
	/* one in six meets the session before it is armed, if there is anything to be met */
	if (!random_below(random, 6) && fault.kind != FAULT_STALL && fault.kind != FAULT_REQUESTS)
		fault.at = -1 - (int)random_below(random, 40);
	return fault;
}

static void draw_policy(struct plan *plan, struct random *random)
{
	struct session_geometry *geometry = &plan->geometry;

	if (!plan->nr_faults) {
		/* a slow machine must not make it a session that breaks */
		geometry->hold_timeout_ms = 120000;
		geometry->stall_timeout_ms = 120000;
		return;
	}
	geometry->hold_timeout_ms = 200 + random_below(random, 2300);
	/* somebody has to end the hold when the consumer does not */
	if (geometry->on_full == SNAPBAK_ON_FULL_HOLD || random_below(random, 2))
		geometry->stall_timeout_ms = 200 + random_below(random, 2300);
}

struct plan plan_draw(__u64 seed, __u64 number, __u64 sectors)
{
	static const __u32 shifts[] = { 12, 13, 14, 14, 15, 16, 16, 16, 17, 20 };
	struct random random = { .state = mix64(mix64(seed) + number) };
	struct plan plan = {
		.seed = seed,
		.number = number,
		.geometry = { .block_shift = shifts[random_below(&random, 10)],
			      .nr_slots = 1 + (__u32)random_below(&random, random_below(&random, 3) ? 48 : 4),
			      .on_full = (__u32)random_below(&random, 2) },
		.list_all = random_below(&random, 3) != 0,
		.threads = 2 + (unsigned int)random_below(&random, 5),
		.nr_faults = (unsigned int)random_below(&random, PLAN_FAULTS),
	};
	__u64 blocks = (sectors * SECTOR >> plan.geometry.block_shift) + 1;
	unsigned int i;

	plan.copy = (struct copy_options){
		.sweep = 1,
		.run_blocks = 1 + (__u32)random_below(&random, blocks / 16 + 1),
		.drain_delay_us = random_below(&random, 3) ? 0 : random_below(&random, 3000),
		.seed = random_next(&random),
	};
	/* a run is half as long as the longest, on average */
	plan.copy.sweep_delay_us = COPY_MS * 1000 * (plan.copy.run_blocks / 2 + 1) / blocks;
	if (random_below(&random, 2))
		plan.throttle_rate = (256 + random_below(&random, 8192)) << 10;
	for (i = 0; i < plan.nr_faults; i++)
		plan.faults[i] = draw_fault(&random, sectors);
	draw_policy(&plan, &random);
	/* so that writes are held while it stands still */
	if (plan_has(&plan, FAULT_STALL))
		plan.geometry.nr_slots = 1 + plan.geometry.nr_slots % 4;
	return plan;
}

int plan_has(const struct plan *plan, enum fault_kind kind)
{
	unsigned int i;

	for (i = 0; i < plan->nr_faults; i++)
		if (plan->faults[i].kind == kind)
			return 1;
	return 0;
}

int plan_fails_origin(const struct plan *plan)
{
	return plan_has(plan, FAULT_ORIGIN_ERRORS) || plan_has(plan, FAULT_ORIGIN_BAD_PART) ||
	       plan_has(plan, FAULT_ORIGIN_UNREADABLE) || plan_has(plan, FAULT_ORIGIN_UNWRITABLE) ||
	       plan_has(plan, FAULT_ORIGIN_FLAKEY);
}

void plan_list(const struct plan *plan, struct copy *copy)
{
	struct random random = { .state = mix64(plan->copy.seed) };
	__u64 nr = copy->session->shm->nr_blocks;
	unsigned int i;

	if (plan->list_all) {
		copy_list(copy, 0, nr);
		return;
	}
	for (i = 0; i < 8; i++) {
		__u64 first = random_below(&random, nr);
		__u64 count = 1 + random_below(&random, nr / 6 + 1);

		copy_list(copy, first, count < nr - first ? count : nr - first);
	}
}

__u64 plan_patience_ns(const struct plan *plan, __u64 longest)
{
	__u64 blocks, a_block_us = 5000 + plan->copy.drain_delay_us + plan->copy.sweep_delay_us;
	__u64 ms;
	unsigned int i;

	if (plan->geometry.on_full == SNAPBAK_ON_FULL_BREAK) {
		ms = plan->geometry.hold_timeout_ms;
	} else {
		/* while the consumer gets on, a write waits for its turn, block after block */
		blocks = ((longest >> plan->geometry.block_shift) + 2) * plan->threads;
		for (i = 0; i < plan->nr_faults; i++)
			if (plan->faults[i].weather.kind == WEATHER_SLOW)
				a_block_us += 1000 * (plan->faults[i].weather.read_ms + plan->faults[i].weather.write_ms);
		ms = plan->geometry.stall_timeout_ms + blocks * a_block_us / 1000;
	}
	return ms * 1000000;
}

void plan_print(const struct plan *plan)
{
	unsigned int i;

	printf("\"seed\": %llu, \"number\": %llu, \"blockSize\": %u, \"slots\": %u, \"onFull\": \"%s\", "
	       "\"holdTimeoutMs\": %llu, \"stallTimeoutMs\": %llu, \"throttle\": %llu, \"all\": %d, \"threads\": %u, "
	       "\"plan\": [",
	       plan->seed, plan->number, 1u << plan->geometry.block_shift, plan->geometry.nr_slots,
	       plan->geometry.on_full == SNAPBAK_ON_FULL_HOLD ? "hold" : "break", plan->geometry.hold_timeout_ms,
	       plan->geometry.stall_timeout_ms, plan->throttle_rate, plan->list_all, plan->threads);
	for (i = 0; i < plan->nr_faults; i++)
		printf("%s\"%s %d %u\"", i ? ", " : "", fault_names[plan->faults[i].kind], plan->faults[i].at,
		       plan->faults[i].for_ms);
	printf("]");
}
