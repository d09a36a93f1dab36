// SPDX-License-Identifier: GPL-2.0
/*
 * Writes that are kept back: held, because no slot is
 * free, or delayed by the throttle; and the end of a session, which lets all
 * of them go.
 *
 * No wait here is without an end: a held write goes on when the library kicks
 * and its block is safe or a slot free, when its time is over, or when the
 * session breaks, which the death of the library's process does.
 */
#include <linux/hash.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>

#include "dm-snapbak.h"

/* While writes are held: how often to see whether the library's process still lives. */
#define OWNER_CHECK_MS 200

static struct hlist_head *held_bucket(struct snapbak_session *s, u64 block)
{
	return &s->held_blocks[hash_64(block, ilog2(ARRAY_SIZE(s->held_blocks)))];
}

/* With hold_lock held. */
static void store_held(struct snapbak_session *s)
{
	struct snapbak_shm *header = s->memory->header;

	WRITE_ONCE(header->driver_waiting, s->nr_held);
	WRITE_ONCE(header->counters[SNAPBAK_C_HELD_NOW], s->nr_held);
}

/* With hold_lock held: how many of the held writes may try for a slot. */
static int slots_available(struct snapbak_session *s)
{
	int available;

	spin_lock(&s->slots_lock);
	available = snapbak_slots_available(&s->slots);
	spin_unlock(&s->slots_lock);
	/* rubbish is found again, and handled, by whoever takes a slot */
	return available < 0 ? INT_MAX : available;
}

/* With hold_lock held: tells the library, once a block, that a write waits for it. */
static void publish_wanted(struct snapbak_session *s, struct snapbak_io *io)
{
	struct snapbak_event event = { .block = io->block, .type = SNAPBAK_EVENT_WANTED };
	struct snapbak_io *other;

	hlist_for_each_entry(other, held_bucket(s, io->block), same) {
		if (other->block == io->block && other->wanted) {
			io->wanted = true;
			return;
		}
	}
	spin_lock(&s->slots_lock);
	/* no room: the library kicks when it has taken events, and we try again */
	io->wanted = snapbak_slots_try_publish(&s->slots, &event);
	spin_unlock(&s->slots_lock);
	if (io->wanted)
		snapbak_count(s, SNAPBAK_C_WANTED, 1);
}

/*
 * With hold_lock held. A write that found its slot taken by another comes back
 * to its old place; a new one's is at the end.
 */
static void park(struct snapbak_session *s, struct snapbak_io *io)
{
	struct snapbak_io *before;

	io->wanted = false;
	list_for_each_entry_reverse(before, &s->held, list) {
		if (ktime_compare(before->deadline, io->deadline) <= 0)
			break;
	}
	list_add(&io->list, &before->list);
	hlist_add_head(&io->same, held_bucket(s, io->block));
	s->nr_held++;
	store_held(s);
}

/* With hold_lock held. */
static void unpark(struct snapbak_session *s, struct snapbak_io *io, ktime_t now)
{
	u64 ns = ktime_to_ns(ktime_sub(now, io->since));

	list_del(&io->list);
	hlist_del(&io->same);
	s->nr_held--;
	store_held(s);
	snapbak_count(s, SNAPBAK_C_HELD_NS, ns);
	snapbak_count_time(s, SNAPBAK_H_HOLD, SNAPBAK_C_HELD_MAX_NS, ns);
}

/* With hold_lock held: a delayed write goes on. */
static void count_delay(struct snapbak_session *s, struct snapbak_io *io, ktime_t now)
{
	u64 ns = ktime_to_ns(ktime_sub(now, io->since));

	snapbak_count(s, SNAPBAK_C_DELAYED_NOW, -1);
	snapbak_count(s, SNAPBAK_C_DELAYED_NS, ns);
	snapbak_count_time(s, SNAPBAK_H_DELAY, SNAPBAK_C_DELAYED_MAX_NS, ns);
}

/* With hold_lock held: for the time of the oldest held write, and a look at the owner before. */
static void arm_hold_timer(struct snapbak_session *s)
{
	struct snapbak_io *first = list_first_entry_or_null(&s->held, struct snapbak_io, list);
	ktime_t next = ktime_add_ms(ktime_get(), OWNER_CHECK_MS);

	if (!first)
		return;
	if (s->on_full == SNAPBAK_ON_FULL_BREAK)
		next = min(next, first->deadline);
	hrtimer_start(&s->hold_timer, next, HRTIMER_MODE_ABS);
}

/*
 * A killed process gives its descriptors back when its last thread is gone, and
 * that thread may be in a write that is held here. So its death counts from the
 * signal on.
 */
static bool owner_dies(struct snapbak_session *s)
{
	struct task_struct *task;
	bool dies;

	rcu_read_lock();
	task = pid_task(s->owner, PIDTYPE_TGID);
	dies = !task || READ_ONCE(task->signal->flags) & SIGNAL_GROUP_EXIT;
	rcu_read_unlock();
	return dies;
}

/**
 * snapbak_hold() - keep a write back until its block is safe or a slot is free.
 * @io: the write; io->block is pending and no slot was free.
 *
 * Context: any; does not sleep.
 * Return: true if it is held, and not the caller's any more; false: look again.
 */
bool snapbak_hold(struct snapbak_io *io)
{
	struct snapbak_session *s = io->session;
	ktime_t now = ktime_get();
	unsigned long flags;
	bool held = true, late = false;

	spin_lock_irqsave(&s->hold_lock, flags);
	if (io->deadline) {
		/*
		 * It had its look after its time was over: bits and slots that
		 * come and go keep nobody for ever.
		 */
		late = s->on_full == SNAPBAK_ON_FULL_BREAK &&
		       ktime_compare(now, io->deadline) >= 0;
	} else {
		io->deadline = ktime_add_ns(now, s->hold_ns);
		snapbak_count(s, SNAPBAK_C_HELD, 1);
	}
	io->since = now;
	io->stage = SNAPBAK_CLAIM;
	park(s, io);
	/*
	 * From here on the library kicks after what it does; what it did
	 * before, we see when we look now.
	 */
	smp_mb();
	if (late || snapbak_over(s) || !snapbak_bitmap_test(s->memory->bitmap, io->block) ||
	    slots_available(s)) {
		unpark(s, io, now);
		held = false;
	} else {
		publish_wanted(s, io);
		if (list_is_singular(&s->held)) {
			s->heartbeat_at = now; /* nobody looked for a while */
			arm_hold_timer(s);
		}
		/* under the lock: once it is released, write and session may be gone */
		snapbak_wake_library(s);
	}
	spin_unlock_irqrestore(&s->hold_lock, flags);
	if (late)
		snapbak_break(s, SNAPBAK_REASON_HOLD_TIMEOUT, -ETIMEDOUT);
	return held;
}

/**
 * snapbak_kick() - slots may be free, blocks safe, or the event ring emptier.
 * @s: a session with memory.
 *
 * Lets those held writes try again whose block is safe, and as many others as
 * there are slots, the oldest first.
 *
 * Context: process.
 */
void snapbak_kick(struct snapbak_session *s)
{
	struct snapbak_io *io, *next;
	ktime_t now = ktime_get();
	unsigned long flags;
	LIST_HEAD(go);
	int slots;

	spin_lock_irqsave(&s->hold_lock, flags);
	slots = s->nr_held ? slots_available(s) : 0;
	list_for_each_entry_safe(io, next, &s->held, list) {
		bool pending = snapbak_bitmap_test(s->memory->bitmap, io->block);

		if (pending && slots <= 0) {
			if (!io->wanted)
				publish_wanted(s, io);
			continue;
		}
		slots -= pending;
		unpark(s, io, now);
		list_add_tail(&io->list, &go);
	}
	arm_hold_timer(s);
	if (s->nr_held)
		snapbak_wake_library(s);
	snapbak_queue_list(s->origin, &go);
	spin_unlock_irqrestore(&s->hold_lock, flags);
}

/* With hold_lock held: every write that is held or delayed goes to @go. */
static void release_all(struct snapbak_session *s, struct list_head *go)
{
	struct snapbak_io *io, *next;
	ktime_t now = ktime_get();

	list_for_each_entry_safe(io, next, &s->held, list) {
		unpark(s, io, now);
		list_add_tail(&io->list, go);
	}
	list_for_each_entry(io, &s->delayed, list)
		count_delay(s, io, now);
	list_splice_tail_init(&s->delayed, go);
}

/**
 * snapbak_break() - end a session that cannot be completed; only the first reason counts.
 * @s: a session with memory.
 * @reason: why.
 * @error: negative errno behind it, or 0.
 *
 * Held and delayed writes go on at once.
 *
 * Context: any; does not sleep.
 */
void snapbak_break(struct snapbak_session *s, enum snapbak_reason reason, int error)
{
	struct snapbak_shm *header = s->memory->header;
	unsigned long flags;
	LIST_HEAD(go);

	spin_lock_irqsave(&s->hold_lock, flags);
	if (snapbak_over(s)) {
		spin_unlock_irqrestore(&s->hold_lock, flags);
		return;
	}
	WRITE_ONCE(header->reason, reason);
	WRITE_ONCE(header->error, error);
	smp_store_release(&header->state, SNAPBAK_STATE_BROKEN); /* after reason and error */
	/* last: whoever passes a write uncaptured because of it has a state that says so */
	smp_store_release(&s->broken, true);
	release_all(s, &go);
	snapbak_wake_library(s);
	/* START may be waiting for writes in flight */
	wake_up_all(&snapbak_gate_wait);
	snapbak_queue_list(s->origin, &go);
	spin_unlock_irqrestore(&s->hold_lock, flags);
}

/**
 * snapbak_finish() - end a session that is complete, unless it broke.
 * @s: a session with memory; nothing of it is pending.
 *
 * No write is captured, held or delayed from here on, whatever a library that
 * sets bits again has in mind; those that are go on, kicked or not: the end of
 * the session would not find them any more.
 *
 * Context: process.
 * Return: false if it is broken.
 */
bool snapbak_finish(struct snapbak_session *s)
{
	unsigned long flags;
	LIST_HEAD(go);
	bool finished;

	spin_lock_irqsave(&s->hold_lock, flags);
	finished = !s->broken;
	WRITE_ONCE(s->finished, finished);
	if (finished) {
		/* after every event */
		smp_store_release(&s->memory->header->state, SNAPBAK_STATE_FINISHED);
		release_all(s, &go);
		snapbak_wake_library(s);
		snapbak_queue_list(s->origin, &go);
	}
	spin_unlock_irqrestore(&s->hold_lock, flags);
	return finished;
}

/*
 * With hold_lock held. A library that lives but drains nothing while writes are
 * held is as good as dead.
 */
static bool is_stalled(struct snapbak_session *s, ktime_t now)
{
	u64 heartbeat = READ_ONCE(s->memory->header->heartbeat);

	if (heartbeat != s->heartbeat) {
		s->heartbeat = heartbeat;
		s->heartbeat_at = now;
	}
	return s->stall_ns && ktime_to_ns(ktime_sub(now, s->heartbeat_at)) >= s->stall_ns;
}

static enum hrtimer_restart hold_timer(struct hrtimer *timer)
{
	struct snapbak_session *s = container_of(timer, struct snapbak_session, hold_timer);
	ktime_t now = ktime_get();
	bool held, late, stalled;
	struct snapbak_io *first;
	unsigned long flags;

	spin_lock_irqsave(&s->hold_lock, flags);
	first = list_first_entry_or_null(&s->held, struct snapbak_io, list);
	held = first;
	late = held && s->on_full == SNAPBAK_ON_FULL_BREAK &&
	       ktime_compare(first->deadline, now) <= 0;
	stalled = held && is_stalled(s, now);
	if (!late && !stalled)
		arm_hold_timer(s);
	spin_unlock_irqrestore(&s->hold_lock, flags);
	if (held && owner_dies(s))
		snapbak_break(s, SNAPBAK_REASON_CLOSED, 0);
	else if (late)
		snapbak_break(s, SNAPBAK_REASON_HOLD_TIMEOUT, -ETIMEDOUT);
	else if (stalled)
		snapbak_break(s, SNAPBAK_REASON_STALLED, -ETIMEDOUT);
	return HRTIMER_NORESTART;
}

/* With hold_lock held. Writes depart in the order they came, but for a ceiling that was lowered. */
static void park_delayed(struct snapbak_session *s, struct snapbak_io *io)
{
	struct snapbak_io *before;

	list_for_each_entry_reverse(before, &s->delayed, list) {
		if (ktime_compare(before->expires, io->expires) <= 0)
			break;
	}
	list_add(&io->list, &before->list);
}

/**
 * snapbak_delay() - slow a write down as the throttle says, once a write.
 * @io: the write.
 * @blocks: how many it is about to capture.
 *
 * Context: any; does not sleep.
 * Return: true if it is delayed, and not the caller's any more.
 */
bool snapbak_delay(struct snapbak_io *io, u64 blocks)
{
	struct snapbak_session *s = io->session;
	const struct snapbak_shm *header = s->memory->header;
	struct snapbak_throttle throttle = {
		.begin = READ_ONCE(header->throttle_begin),
		.full = READ_ONCE(header->throttle_full),
		.rate = READ_ONCE(header->throttle_rate),
		.max_us = READ_ONCE(header->throttle_max_us),
		.block_size = 1U << s->memory->geometry.block_shift,
	};
	unsigned long flags;
	bool delayed = false;
	u32 interval;
	u64 depart;

	if (!throttle.begin || io->delayed)
		return false;
	/* a moment's truth is enough for a delay */
	interval = snapbak_throttle_interval_us(&throttle,
						s->slots.nr - READ_ONCE(s->slots.nr_free));
	if (!interval)
		return false;

	spin_lock_irqsave(&s->hold_lock, flags);
	if (!snapbak_over(s)) {
		delayed = true;
		io->delayed = true;
		io->stage = SNAPBAK_CLAIM;
		io->since = ktime_get();
		depart = snapbak_throttle_depart_ns(&s->next_departure, ktime_to_ns(io->since),
						    interval, blocks, throttle.max_us);
		io->expires = ns_to_ktime(depart);
		snapbak_count(s, SNAPBAK_C_DELAYED, 1);
		snapbak_count(s, SNAPBAK_C_DELAYED_NOW, 1);
		park_delayed(s, io);
		if (list_is_first(&io->list, &s->delayed))
			hrtimer_start(&s->delay_timer, io->expires, HRTIMER_MODE_ABS);
	}
	spin_unlock_irqrestore(&s->hold_lock, flags);
	return delayed;
}

static enum hrtimer_restart delay_timer(struct hrtimer *timer)
{
	struct snapbak_session *s = container_of(timer, struct snapbak_session, delay_timer);
	struct snapbak_io *io, *next;
	ktime_t now = ktime_get();
	unsigned long flags;
	LIST_HEAD(go);

	spin_lock_irqsave(&s->hold_lock, flags);
	list_for_each_entry_safe(io, next, &s->delayed, list) {
		if (ktime_compare(io->expires, now) > 0) {
			hrtimer_start(&s->delay_timer, io->expires, HRTIMER_MODE_ABS);
			break;
		}
		count_delay(s, io, now);
		list_move_tail(&io->list, &go);
	}
	snapbak_queue_list(s->origin, &go);
	spin_unlock_irqrestore(&s->hold_lock, flags);
	return HRTIMER_NORESTART;
}

/**
 * snapbak_hold_init() - a new session's lists and timers.
 * @s: the session.
 *
 * Context: process.
 */
void snapbak_hold_init(struct snapbak_session *s)
{
	unsigned int i;

	spin_lock_init(&s->hold_lock);
	INIT_LIST_HEAD(&s->held);
	INIT_LIST_HEAD(&s->delayed);
	for (i = 0; i < ARRAY_SIZE(s->held_blocks); i++)
		INIT_HLIST_HEAD(&s->held_blocks[i]);
	snapbak_compat_hrtimer_setup(&s->hold_timer, hold_timer);
	snapbak_compat_hrtimer_setup(&s->delay_timer, delay_timer);
}

/**
 * snapbak_hold_exit() - stop the timers of a session to which nobody refers.
 * @s: the session.
 *
 * Context: process; may sleep.
 */
void snapbak_hold_exit(struct snapbak_session *s)
{
	hrtimer_cancel(&s->hold_timer);
	hrtimer_cancel(&s->delay_timer);
}
