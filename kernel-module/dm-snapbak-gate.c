// SPDX-License-Identifier: GPL-2.0
/*
 * Every write passes the gate; arming shuts it, waits for the writes inside,
 * and opens it again.
 *
 * Order: a writer adds to its processor's count, then looks at shut; the
 * shutter sets shut, then looks at the counts; a full barrier on both sides,
 * so one of them sees the other. A writer that finds the gate shut takes its
 * count back on the same processor (preemption is off between), so that a
 * count taken back is never seen without the count itself. Once shut, counts
 * of writers that passed are all visible and only fall: a sum of 0 is true.
 * The writer's half is in dm-snapbak.h: every write runs through it.
 */
#include "dm-snapbak.h"

DECLARE_WAIT_QUEUE_HEAD(snapbak_gate_wait);

/**
 * snapbak_gate_park() - keep a write that found the gate shut until it opens.
 * @io: the write; the worker takes it with its stage ENTER.
 *
 * Context: any; does not sleep.
 * Return: false if the gate is open again, and the write still the caller's.
 */
bool snapbak_gate_park(struct snapbak_io *io)
{
	struct snapbak_origin *origin = io->origin;
	unsigned long flags;
	bool shut;

	spin_lock_irqsave(&origin->lock, flags);
	shut = origin->shut;
	if (shut) {
		io->stage = SNAPBAK_ENTER;
		list_add_tail(&io->list, &origin->gated);
	}
	spin_unlock_irqrestore(&origin->lock, flags);
	return shut;
}

/**
 * snapbak_gate_shut() - keep new writes out.
 * @origin: whose gate; shut by one caller at a time.
 *
 * Context: process.
 */
void snapbak_gate_shut(struct snapbak_origin *origin)
{
	spin_lock_irq(&origin->lock);
	WRITE_ONCE(origin->shut, 1);
	spin_unlock_irq(&origin->lock);
	smp_mb(); /* shut before the counts; pairs with snapbak_gate_enter() */
}

/**
 * snapbak_gate_empty() - is no write inside? Only with the gate shut.
 * @origin: whose gate.
 *
 * Context: any; does not sleep.
 * Return: true if every write that passed the gate has completed.
 */
bool snapbak_gate_empty(struct snapbak_origin *origin)
{
	int cpu, sum = 0;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(origin->inside, cpu));
	return sum == 0;
}

/**
 * snapbak_gate_open() - let writes in again, those that waited first.
 * @origin: whose gate.
 *
 * Context: process.
 */
void snapbak_gate_open(struct snapbak_origin *origin)
{
	LIST_HEAD(gated);

	spin_lock_irq(&origin->lock);
	/* release: who finds it open sees what was armed */
	smp_store_release(&origin->shut, 0);
	list_splice_init(&origin->gated, &gated);
	spin_unlock_irq(&origin->lock);
	snapbak_queue_list(origin, &gated);
}
