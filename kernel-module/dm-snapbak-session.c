// SPDX-License-Identifier: GPL-2.0
/*
 * A session from OPEN to its end, whatever ends it.
 */
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "dm-snapbak.h"

#define MAX_HOLD_MS 86400000ULL

/**
 * snapbak_session_new() - what a control descriptor begins with.
 *
 * Context: process; may sleep.
 * Return: the session with one reference, or NULL.
 */
struct snapbak_session *snapbak_session_new(void)
{
	struct snapbak_session *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!s)
		return NULL;
	s->buckets = kvcalloc(SNAPBAK_NR_BUCKETS, sizeof(*s->buckets), GFP_KERNEL_ACCOUNT);
	if (!s->buckets) {
		kfree(s);
		return NULL;
	}
	for (i = 0; i < SNAPBAK_NR_BUCKETS; i++)
		spin_lock_init(&s->buckets[i].lock);
	kref_init(&s->ref);
	mutex_init(&s->mutex);
	init_waitqueue_head(&s->wait);
	spin_lock_init(&s->slots_lock);
	snapbak_hold_init(s);
	return s;
}

static void session_free(struct kref *ref)
{
	struct snapbak_session *s = container_of(ref, struct snapbak_session, ref);

	snapbak_hold_exit(s);
	snapbak_memory_free(s->memory);
	kvfree(s->slots.free);
	kvfree(s->slots.with_library);
	kvfree(s->buckets);
	put_pid(s->owner);
	if (s->origin)
		snapbak_origin_put(s->origin);
	mutex_destroy(&s->mutex);
	kfree(s);
}

/**
 * snapbak_session_put() - give a reference back.
 * @s: the session.
 *
 * Context: process; may sleep.
 */
void snapbak_session_put(struct snapbak_session *s)
{
	kref_put(&s->ref, session_free);
}

/**
 * snapbak_wake_library() - wake whoever polls the descriptor, if it sleeps.
 * @s: a session with memory; something was published, or its state changed.
 *
 * Context: any; does not sleep.
 */
void snapbak_wake_library(struct snapbak_session *s)
{
	struct snapbak_shm *header = s->memory->header;

	snapbak_full_fence();
	if (snapbak_load_relaxed(&header->library_asleep) &&
	    snapbak_exchange(&header->library_asleep, 0))
		wake_up_interruptible_poll(&s->wait, EPOLLIN | EPOLLRDNORM);
}

/* With snapbak_origins_mutex held: does the origin's session still count? */
static bool has_session(struct snapbak_origin *origin)
{
	struct snapbak_session *s = origin->session;

	return s && !snapbak_over(s);
}

/**
 * snapbak_session_open() - OPEN.
 * @s: a new session.
 * @arg: the request; filled in.
 *
 * Context: process, with s->mutex.
 * Return: 0; -EINVAL if it is open already; -ENODEV: no live target with that
 * number; -EBUSY: it has a session.
 */
int snapbak_session_open(struct snapbak_session *s, struct snapbak_open *arg)
{
	struct snapbak_origin *origin;
	int ret = 0;

	lockdep_assert_held(&s->mutex);
	if (s->origin)
		return -EINVAL;
	mutex_lock(&snapbak_origins_mutex);
	origin = snapbak_origin_find(new_decode_dev(arg->dev));
	if (!origin) {
		ret = -ENODEV;
	} else if (has_session(origin)) {
		ret = -EBUSY;
	} else {
		/* an ended session whose descriptor is still open */
		RCU_INIT_POINTER(origin->armed, NULL);
		origin->session = s;
		s->origin = origin;
		kref_get(&origin->ref);
		arg->origin_size = origin->size;
		arg->sector_size = bdev_logical_block_size(origin->lower->bdev);
		arg->origin_flags = SNAPBAK_O_BLOCK_DEVICE;
		arg->lower_dev = new_encode_dev(origin->lower->bdev->bd_dev);
		arg->lower_offset = (u64)origin->start << SECTOR_SHIFT;
		snapbak_origin_name(origin, arg->origin_id, sizeof(arg->origin_id));
	}
	mutex_unlock(&snapbak_origins_mutex);
	return ret;
}

/**
 * snapbak_session_setup() - SETUP.
 * @s: an open session.
 * @arg: the request; filled in.
 *
 * Context: process, with s->mutex; may sleep.
 * Return: 0; -EINVAL out of order or out of range; -ENOTCONN before OPEN; -ENOMEM; -EINTR.
 */
int snapbak_session_setup(struct snapbak_session *s, struct snapbak_setup *arg)
{
	struct snapbak_memory *m;

	lockdep_assert_held(&s->mutex);
	if (!s->origin)
		return -ENOTCONN;
	if (s->state != SNAPBAK_STATE_NEW || arg->on_full > SNAPBAK_ON_FULL_HOLD ||
	    !arg->hold_timeout_ms || arg->hold_timeout_ms > MAX_HOLD_MS ||
	    arg->stall_timeout_ms > MAX_HOLD_MS)
		return -EINVAL;
	m = snapbak_memory_alloc(s->origin->size, arg->block_shift, arg->nr_slots, arg->flags);
	if (IS_ERR(m))
		return PTR_ERR(m);
	s->slots.free = kvcalloc(arg->nr_slots, sizeof(*s->slots.free), GFP_KERNEL_ACCOUNT);
	s->slots.with_library = kvcalloc(snapbak_bitmap_words(arg->nr_slots), sizeof(u64),
					 GFP_KERNEL_ACCOUNT);
	if (!s->slots.free || !s->slots.with_library) {
		kvfree(s->slots.free);
		kvfree(s->slots.with_library);
		s->slots.free = NULL;
		s->slots.with_library = NULL;
		snapbak_memory_free(m);
		return -ENOMEM;
	}
	snapbak_memory_rings(m, &s->slots.events, &s->slots.returned);
	snapbak_slots_init(&s->slots, arg->nr_slots);
	s->owner = get_pid(task_tgid(current));
	s->on_full = arg->on_full;
	s->hold_ns = arg->hold_timeout_ms * NSEC_PER_MSEC;
	s->stall_ns = arg->stall_timeout_ms * NSEC_PER_MSEC;
	s->state = SNAPBAK_STATE_READY;
	smp_store_release(&m->header->state, SNAPBAK_STATE_READY); /* after the geometry */
	arg->map_size = m->geometry.map_size;
	smp_store_release(&s->memory, m); /* whole; see snapbak_session_memory() */

	/* the target may have gone before there was anything to tell it by */
	mutex_lock(&snapbak_origins_mutex);
	if (s->origin->gone)
		snapbak_break(s, SNAPBAK_REASON_ORIGIN_GONE, -ENODEV);
	mutex_unlock(&snapbak_origins_mutex);
	return 0;
}

/* Takes the session off the write path. Writes that it holds are not touched. */
static void disarm(struct snapbak_session *s)
{
	struct snapbak_origin *origin = s->origin;

	mutex_lock(&snapbak_origins_mutex);
	if (rcu_access_pointer(origin->armed) == s)
		RCU_INIT_POINTER(origin->armed, NULL);
	mutex_unlock(&snapbak_origins_mutex);
}

static bool settled(struct snapbak_origin *origin)
{
	return !READ_ONCE(origin->suspended) || READ_ONCE(origin->gone);
}

/**
 * snapbak_session_finish() - FINISH.
 * @s: an armed session.
 *
 * While the device is suspended, nobody knows whether its writes will still
 * come this way when it goes on: waits until that is known.
 *
 * Context: process, with s->mutex; may sleep.
 * Return: 0; -EBUSY while a block is pending or being captured; -EPIPE if it
 * is broken; -EINVAL, -ENOTCONN out of order; -ERESTARTSYS.
 */
int snapbak_session_finish(struct snapbak_session *s)
{
	struct snapbak_memory *m = s->memory;
	bool finished;
	int ret;

	lockdep_assert_held(&s->mutex);
	if (!s->origin)
		return -ENOTCONN;
	if (s->state != SNAPBAK_STATE_ARMED)
		return s->memory && snapbak_broken(s) ? -EPIPE : -EINVAL;
	if (snapbak_broken(s))
		return -EPIPE;
	if (snapbak_bitmap_next_set(m->bitmap, 0, m->geometry.nr_blocks) != m->geometry.nr_blocks ||
	    !snapbak_captures_idle(s))
		return -EBUSY;
	for (;;) {
		ret = wait_event_interruptible(snapbak_gate_wait,
					       settled(s->origin) || snapbak_broken(s));
		if (ret)
			return ret;
		/* a device that is suspended takes this lock before it may get another table */
		mutex_lock(&snapbak_origins_mutex);
		if (settled(s->origin) || snapbak_broken(s))
			break;
		mutex_unlock(&snapbak_origins_mutex);
	}
	finished = !s->origin->gone && snapbak_finish(s);
	mutex_unlock(&snapbak_origins_mutex);
	if (!finished)
		return -EPIPE;
	s->state = SNAPBAK_STATE_FINISHED;
	disarm(s);
	return 0;
}

/**
 * snapbak_session_abort() - ABORT.
 * @s: a session.
 * @reason: SNAPBAK_REASON_ABORTED or SNAPBAK_REASON_STALLED.
 *
 * Held writes go on before any request under way is waited for.
 *
 * Context: process; may sleep.
 * Return: 0; -EINVAL for a finished session; -ENOTCONN before OPEN.
 */
int snapbak_session_abort(struct snapbak_session *s, u32 reason)
{
	int ret = 0;

	if (snapbak_session_memory(s))
		snapbak_break(s, reason, 0);
	mutex_lock(&s->mutex);
	if (!s->origin) {
		ret = -ENOTCONN;
	} else if (s->finished) {
		ret = -EINVAL;
	} else {
		/* SETUP may have been under way just now */
		if (s->memory)
			snapbak_break(s, reason, 0);
		else
			WRITE_ONCE(s->broken, true);
		s->state = SNAPBAK_STATE_BROKEN;
		disarm(s);
	}
	mutex_unlock(&s->mutex);
	return ret;
}

/**
 * snapbak_session_close() - the last reference to the descriptor is gone.
 * @s: its session; not the caller's any more.
 *
 * Context: process; may sleep.
 */
void snapbak_session_close(struct snapbak_session *s)
{
	struct snapbak_origin *origin = s->origin;

	if (s->memory)
		snapbak_break(s, SNAPBAK_REASON_CLOSED, 0);
	if (origin) {
		mutex_lock(&snapbak_origins_mutex);
		if (origin->session == s)
			origin->session = NULL;
		if (rcu_access_pointer(origin->armed) == s)
			RCU_INIT_POINTER(origin->armed, NULL);
		mutex_unlock(&snapbak_origins_mutex);
		/* writes that are looking at it without a reference */
		synchronize_rcu();
	}
	snapbak_session_put(s);
}

/**
 * snapbak_hint() - HINT: tell an origin's session, whoever owns it.
 * @arg: the request.
 *
 * Context: process; may sleep.
 * Return: 0; -ENODEV if there is no such origin; -EINVAL for an extent that is
 * empty or does not lie inside it; -ENODATA if it has no armed session.
 */
int snapbak_hint(const struct snapbak_hint *arg)
{
	const struct snapbak_extent *extent = &arg->extent;
	struct snapbak_origin *origin;
	struct snapbak_session *s;
	struct snapbak_memory *m;
	int ret;

	mutex_lock(&snapbak_origins_mutex);
	ret = -ENODEV;
	origin = snapbak_origin_find(new_decode_dev(arg->dev));
	if (!origin)
		goto out;
	ret = -EINVAL;
	if (!extent->length || extent->offset > origin->size ||
	    extent->length > origin->size - extent->offset)
		goto out;
	ret = -ENODATA;
	s = origin->session; /* it stays while it is the origin's */
	if (!s || READ_ONCE(s->state) != SNAPBAK_STATE_ARMED || snapbak_over(s))
		goto out;
	m = snapbak_session_memory(s);
	snapbak_hints_put(m->header, &s->hints, extent);
	snapbak_count(s, SNAPBAK_C_HINTS, 1);
	snapbak_wake_library(s);
	ret = 0;
out:
	mutex_unlock(&snapbak_origins_mutex);
	return ret;
}

/**
 * snapbak_status() - STATUS: of an origin's session, whoever owns it.
 * @arg: the request; filled in.
 *
 * Context: process; may sleep.
 * Return: 0, or -ENODEV if there is no such origin.
 */
int snapbak_status(struct snapbak_status *arg)
{
	struct snapbak_origin *origin;
	struct snapbak_session *s;
	struct snapbak_memory *m;
	unsigned int i;
	int ret = 0;

	mutex_lock(&snapbak_origins_mutex);
	origin = snapbak_origin_find(new_decode_dev(arg->dev));
	if (!origin) {
		ret = -ENODEV;
		goto out;
	}
	arg->origin_size = origin->size;
	snapbak_origin_name(origin, arg->origin_id, sizeof(arg->origin_id));
	s = origin->session;
	if (!s)
		goto out;
	m = snapbak_session_memory(s);
	if (!m) {
		arg->state = snapbak_broken(s) ? SNAPBAK_STATE_BROKEN : SNAPBAK_STATE_NEW;
		goto out;
	}
	/* the header may say anything: state, and what follows from it, are ours */
	arg->state = READ_ONCE(s->finished) ? SNAPBAK_STATE_FINISHED :
		     snapbak_broken(s) ? SNAPBAK_STATE_BROKEN : READ_ONCE(s->state);
	arg->reason = READ_ONCE(m->header->reason);
	arg->error = READ_ONCE(m->header->error);
	arg->start_realtime_ns = READ_ONCE(m->header->start_realtime_ns);
	arg->arm_ns = READ_ONCE(m->header->arm_ns);
	arg->freeze_ns = READ_ONCE(m->header->freeze_ns);
	arg->nr_blocks = m->geometry.nr_blocks;
	arg->pending_blocks = snapbak_bitmap_count(m->bitmap, 0, m->geometry.nr_blocks);
	arg->block_shift = m->geometry.block_shift;
	arg->nr_slots = m->geometry.nr_slots;
	for (i = 0; i < SNAPBAK_NR_COUNTERS; i++)
		arg->counters[i] = READ_ONCE(m->header->counters[i]);
out:
	mutex_unlock(&snapbak_origins_mutex);
	return ret;
}
