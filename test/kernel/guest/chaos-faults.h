/* SPDX-License-Identifier: MIT */
/*
 * chaos-faults.h - what a plan says befalls a session, when its time has come.
 */
#ifndef GUEST_CHAOS_FAULTS_H
#define GUEST_CHAOS_FAULTS_H

#include "chaos-consumer.h"

/* A session as who strikes it sees it. */
struct victim {
	const struct plan *plan;
	struct stack *stack;
	struct consumer_page *page;
	pid_t consumer;
	int control; /* a control descriptor for STATUS */
	__u64 dev; /* number of the origin */
	__u64 patience_ns; /* plan_patience_ns() */
	__u64 slack_ns; /* what a slow machine may add to any time */
	/* what came of it */
	int how; /* the consumer ended, as waitpid tells it */
	__u64 outage_ns; /* so long did we ourselves keep writes */
	unsigned int struck[FAULT_KINDS]; /* faults that met the session before it ended */
};

/*
 * Strikes until the consumer has ended, and puts everything right again.
 * Dies if a write is held, or the consumer stays, longer than it may.
 */
void faults_strike(struct victim *victim);

#endif /* GUEST_CHAOS_FAULTS_H */
