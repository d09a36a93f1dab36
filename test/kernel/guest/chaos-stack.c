// SPDX-License-Identifier: MIT
#include "chaos-stack.h"

#include "dm.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORIGIN "chaos"
#define LOWER "chaos-lower"
#define TARGET "chaos-target"
#define ERROR "chaos-error"

#define REMOVE_TRIES 250 /* of 20 ms: whoever has it open for a moment */

static void must(int error, const char *what, const char *name)
{
	if (error)
		die("%s %s: %s", what, name, strerror(-error));
}

static void line(struct dm_line *to, __u64 first, __u64 sectors, const char *target)
{
	*to = (struct dm_line){ .first = first, .sectors = sectors, .target = target };
}

/* The part of @disk that has the same place in the device. */
static void linear(struct dm_line *to, __u64 first, __u64 sectors, const char *disk)
{
	line(to, first, sectors, "linear");
	snprintf(to->arguments, sizeof(to->arguments), "%s %llu", disk, first);
}

static void delay(struct dm_line *to, __u64 first, __u64 sectors, const char *read, unsigned int read_ms,
		  const char *write, unsigned int write_ms)
{
	line(to, first, sectors, "delay");
	snprintf(to->arguments, sizeof(to->arguments), "%s %llu %u %s %llu %u", read, first, read_ms, write, first,
		 write_ms);
}

/* A part that is bad, in between what is good. */
static unsigned int with_part(const struct stack *stack, const struct weather *weather, const char *disk,
			      struct dm_line *lines)
{
	__u64 end = weather->first + weather->sectors;
	unsigned int n = 0;

	if (weather->first)
		linear(&lines[n++], 0, weather->first, disk);
	switch (weather->kind) {
	case WEATHER_UNREADABLE:
		delay(&lines[n++], weather->first, weather->sectors, stack->error, 0, disk, 0);
		break;
	case WEATHER_UNWRITABLE:
		delay(&lines[n++], weather->first, weather->sectors, disk, 0, stack->error, 0);
		break;
	default:
		line(&lines[n++], weather->first, weather->sectors, "error");
	}
	if (end < stack->sectors)
		linear(&lines[n++], end, stack->sectors - end, disk);
	return n;
}

static unsigned int table(const struct stack *stack, const struct weather *weather, const char *disk,
			  struct dm_line *lines)
{
	switch (weather->kind) {
	case WEATHER_FAIR:
		linear(lines, 0, stack->sectors, disk);
		return 1;
	case WEATHER_SLOW:
		delay(lines, 0, stack->sectors, disk, weather->read_ms, disk, weather->write_ms);
		return 1;
	case WEATHER_ERRORS:
		line(lines, 0, stack->sectors, "error");
		return 1;
	case WEATHER_FLAKEY:
		line(lines, 0, stack->sectors, "flakey");
		snprintf(lines->arguments, sizeof(lines->arguments), "%s 0 1 1", disk);
		return 1;
	default:
		return with_part(stack, weather, disk, lines);
	}
}

void stack_set_weather(struct stack *stack, enum stack_place place, const struct weather *weather)
{
	const char *name = place == STACK_LOWER ? LOWER : TARGET;
	struct dm_line lines[3];
	unsigned int n = table(stack, weather, stack->disks[place], lines);

	must(dm_load(name, lines, n), "load", name);
	must(dm_resume(name, DM_NOFLUSH_FLAG | DM_SKIP_LOCKFS_FLAG), "resume", name);
}

static void load_origin(const struct stack *stack, const char *target)
{
	struct dm_line whole;

	line(&whole, 0, stack->sectors, target);
	snprintf(whole.arguments, sizeof(whole.arguments), "%s 0", stack->lower);
	must(dm_load(ORIGIN, &whole, 1), "load", ORIGIN);
	must(dm_resume(ORIGIN, 0), "resume", ORIGIN);
}

void stack_reload_origin(struct stack *stack)
{
	load_origin(stack, "snapbak");
}

void stack_replace_origin(struct stack *stack, int replaced)
{
	load_origin(stack, replaced ? "linear" : "snapbak");
	stack->replaced = replaced;
}

void stack_suspend_origin(int gently)
{
	must(dm_suspend(ORIGIN, gently ? 0 : DM_NOFLUSH_FLAG | DM_SKIP_LOCKFS_FLAG), "suspend", ORIGIN);
}

void stack_resume_origin(void)
{
	must(dm_resume(ORIGIN, 0), "resume", ORIGIN);
}

int stack_break_session(void)
{
	return dm_message(ORIGIN, "break");
}

/* A thread that waits for a device keeps its process from ending. */
static void let_go(void)
{
	dm_resume(ORIGIN, 0);
	dm_message(ORIGIN, "break");
}

void stack_build(struct stack *stack, const char *disk, const char *target_disk, __u64 sectors)
{
	static const struct weather fair = { .kind = WEATHER_FAIR };
	struct dm_line whole;

	*stack = (struct stack){ .sectors = sectors, .disks = { disk, target_disk } };
	must(dm_create(ERROR, stack->error, sizeof(stack->error)), "create", ERROR);
	line(&whole, 0, sectors, "error");
	must(dm_load(ERROR, &whole, 1), "load", ERROR);
	must(dm_resume(ERROR, 0), "resume", ERROR);
	must(dm_create(LOWER, stack->lower, sizeof(stack->lower)), "create", LOWER);
	stack_set_weather(stack, STACK_LOWER, &fair);
	must(dm_create(TARGET, stack->target, sizeof(stack->target)), "create", TARGET);
	stack_set_weather(stack, STACK_TARGET, &fair);
	must(dm_create(ORIGIN, stack->origin, sizeof(stack->origin)), "create", ORIGIN);
	load_origin(stack, "snapbak");
	atexit(let_go);
}

static void remove_device(const char *name)
{
	int tries, error = -EBUSY;

	for (tries = 0; error == -EBUSY && tries < REMOVE_TRIES; tries++) {
		error = dm_remove(name);
		if (error == -EBUSY)
			sleep_us(20000);
	}
	must(error, "remove", name);
}

void stack_remove(struct stack *stack)
{
	if (stack->replaced)
		die("the origin is no origin");
	remove_device(ORIGIN);
	remove_device(LOWER);
	remove_device(TARGET);
	remove_device(ERROR);
}
