/* SPDX-License-Identifier: MIT */
/*
 * chaos-stack.h - the devices of the chaos, and what can befall them.
 *
 *   writers -> origin (snapbak) -> lower (linear, delay, flakey, error) -> disk
 *   consumer -> target (the same) -> another disk
 *
 * Whatever a reload loads, every block stays where it is on the disks.
 */
#ifndef GUEST_CHAOS_STACK_H
#define GUEST_CHAOS_STACK_H

#include <linux/types.h>

enum weather_kind {
	WEATHER_FAIR,
	WEATHER_SLOW, /* reads and writes take their time */
	WEATHER_ERRORS, /* all of it fails */
	WEATHER_BAD_PART, /* a part of it fails */
	WEATHER_UNREADABLE, /* a part fails to be read, and can be written */
	WEATHER_UNWRITABLE, /* the other way round */
	WEATHER_FLAKEY, /* a second well, a second not */
};

struct weather {
	enum weather_kind kind;
	__u64 first, sectors; /* of the bad part */
	unsigned int read_ms, write_ms; /* when it is slow */
};

enum stack_place { STACK_LOWER, STACK_TARGET };

struct stack {
	__u64 sectors;
	const char *disks[2]; /* by place */
	char lower[64], target[64], origin[64], error[64]; /* their paths */
	int replaced; /* the origin is a linear device at the moment */
};

/* Dies if it cannot. At any exit writes are let go, so that nobody hangs. */
void stack_build(struct stack *stack, const char *disk, const char *target_disk, __u64 sectors);

/* Dies if a device is in use, or is not the origin that it should be. */
void stack_remove(struct stack *stack);

/* The following swap tables under whoever uses them, and die if that fails. */
void stack_set_weather(struct stack *stack, enum stack_place place, const struct weather *weather);

/* The same table once more; ends a session. */
void stack_reload_origin(struct stack *stack);

/* A table that passes everything by the driver, and back; ends a session. */
void stack_replace_origin(struct stack *stack, int replaced);

/* @gently: with a flush, and with freezing what is mounted. */
void stack_suspend_origin(int gently);
void stack_resume_origin(void);

/* "break", by the administrator. Return: 0, -ENOTCONN: there is no session. */
int stack_break_session(void);

#endif /* GUEST_CHAOS_STACK_H */
