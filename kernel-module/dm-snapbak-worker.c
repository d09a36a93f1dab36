// SPDX-License-Identifier: GPL-2.0
/*
 * The thread that takes writes on which map() could not
 * finish: those that waited at the gate, for a slot, for a delay, for a read.
 *
 * One work item an origin, so that writes are submitted in the order in which
 * they became ready. It waits for memory of the origin's own bio pool and for
 * the lower device, and for nothing else.
 */
#include <linux/sched.h>

#include "dm-snapbak.h"

/**
 * snapbak_queue() - hand a write to the worker.
 * @io: the write, on no list; not the caller's any more.
 *
 * Context: any; does not sleep.
 */
void snapbak_queue(struct snapbak_io *io)
{
	struct snapbak_origin *origin = io->origin;
	unsigned long flags;

	/* under the lock: once the write is gone, the origin may go too */
	spin_lock_irqsave(&origin->lock, flags);
	list_add_tail(&io->list, &origin->ready);
	queue_work(origin->wq, &origin->work);
	spin_unlock_irqrestore(&origin->lock, flags);
}

/**
 * snapbak_queue_list() - the same for a list of writes of one origin.
 * @origin: theirs.
 * @list: the writes; empty afterwards.
 *
 * Context: any; does not sleep.
 */
void snapbak_queue_list(struct snapbak_origin *origin, struct list_head *list)
{
	unsigned long flags;

	if (list_empty(list))
		return;
	spin_lock_irqsave(&origin->lock, flags);
	list_splice_tail_init(list, &origin->ready);
	queue_work(origin->wq, &origin->work);
	spin_unlock_irqrestore(&origin->lock, flags);
}

/* The write that waited at the gate: goes in, and learns whether it has to be made safe. */
static bool enter(struct snapbak_io *io)
{
	struct snapbak_origin *origin = io->origin;
	struct snapbak_session *s;

	while (!snapbak_gate_enter(origin)) {
		if (snapbak_gate_park(io))
			return false;
	}
	io->inside = true;

	rcu_read_lock();
	s = rcu_dereference(origin->armed);
	if (s) {
		snapbak_io_blocks(io, snapbak_io_bio(io), s);
		if (!snapbak_safe(s, io->first, io->end))
			io->session = snapbak_session_get(s);
	}
	rcu_read_unlock();
	if (!io->session)
		return true;

	if (bio_op(snapbak_io_bio(io)) == REQ_OP_DISCARD) {
		/* too late to be split at the pending blocks: advice that is not taken */
		snapbak_count(io->session, SNAPBAK_C_DISCARDS_DROPPED, 1);
		snapbak_session_put(io->session);
		io->session = NULL;
		bio_endio(snapbak_io_bio(io));
		return false;
	}
	io->stage = SNAPBAK_CLAIM;
	return snapbak_capture(io, true);
}

static void proceed(struct snapbak_io *io)
{
	bool go = false;

	switch (io->stage) {
	case SNAPBAK_ENTER:
		go = enter(io);
		break;
	case SNAPBAK_CLAIM:
		go = snapbak_capture(io, true);
		break;
	case SNAPBAK_WAIT:
		go = snapbak_wait_for_others(io);
		break;
	}
	if (!go)
		return;
	if (io->session) {
		snapbak_session_put(io->session);
		io->session = NULL;
	}
	snapbak_compat_bio_unpoll(snapbak_io_bio(io));
	submit_bio_noacct(snapbak_io_bio(io));
}

/**
 * snapbak_worker() - the work item of an origin.
 * @work: origin->work.
 *
 * Context: process, under memory reclaim.
 */
void snapbak_worker(struct work_struct *work)
{
	struct snapbak_origin *origin = container_of(work, struct snapbak_origin, work);
	struct blk_plug plug;
	LIST_HEAD(list);

	blk_start_plug(&plug);
	for (;;) {
		spin_lock_irq(&origin->lock);
		list_splice_init(&origin->ready, &list);
		spin_unlock_irq(&origin->lock);
		if (list_empty(&list))
			break;
		while (!list_empty(&list)) {
			struct snapbak_io *io = list_first_entry(&list, struct snapbak_io, list);

			list_del(&io->list);
			proceed(io);
		}
		cond_resched();
	}
	blk_finish_plug(&plug);
}
