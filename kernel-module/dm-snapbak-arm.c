// SPDX-License-Identifier: GPL-2.0
/*
 * START: one instant for all origins of a backup.
 *
 *  1. open each device, freeze its file system: dirty pages reach the origin
 *  2. shut each gate, wait until no write is inside
 *  3. arm: from here on writes look at the bitmaps
 *  4. open the gates, thaw
 *  5. tell those sessions that asked for it where writes went of late
 *
 * All in one call, so that no death of a process can leave a device frozen.
 * Whatever fails, everything before it is undone in reverse order. Nothing
 * between freezing and thawing allocates memory, touches user memory or
 * depends on the size of a device.
 *
 * Freezing writes, and cannot be interrupted. If what one origin stands on is
 * frozen already (a file system with the file of a loop device), its freezing
 * waits for a thaw. So each of several is frozen under a watch, which thaws it
 * when the time of START is over, whatever START is waiting for then.
 */
#include <linux/atomic.h>
#include <linux/jiffies.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "dm-snapbak.h"

/* One START at a time; makes the order in which it takes its sessions' mutexes free. */
static DEFINE_MUTEX(snapbak_start_mutex);

/* One origin of a START. */
struct arm {
	struct snapbak_session *s;
	struct snapbak_origin *origin;
	struct snapbak_compat_bdev bdev;
	struct delayed_work watch;
	atomic_t frozen; /* whoever sets it back thaws */
};

static bool any_broken(struct arm *arms, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (snapbak_broken(arms[i].s))
			return true;
	}
	return false;
}

static void thaw(struct arm *arm)
{
	if (atomic_xchg(&arm->frozen, 0))
		snapbak_compat_bdev_thaw(&arm->bdev);
}

static void thaw_late(struct work_struct *work)
{
	thaw(container_of(to_delayed_work(work), struct arm, watch));
}

/* Waits until no write is inside the gate; *left goes down by the time that it took. */
static int drain(struct snapbak_origin *origin, struct arm *arms, unsigned int nr, long *left)
{
	long ret;

	ret = wait_event_killable_timeout(snapbak_gate_wait,
					  snapbak_gate_empty(origin) || any_broken(arms, nr),
					  *left);
	if (ret < 0)
		return -EINTR;
	if (any_broken(arms, nr))
		return -ECANCELED;
	if (!ret)
		return -ETIMEDOUT;
	*left = ret;
	return 0;
}

/* With all gates shut and drained: the instant. */
static void arm_all(struct arm *arms, unsigned int nr, u64 shut_ns, struct snapbak_start *arg)
{
	u64 realtime = ktime_get_real_ns();
	u64 monotonic = ktime_get_ns();
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct snapbak_session *s = arms[i].s;
		struct snapbak_shm *header = s->memory->header;
		unsigned long flags;

		header->start_realtime_ns = realtime;
		header->start_monotonic_ns = monotonic;
		header->arm_ns = monotonic - shut_ns;
		rcu_assign_pointer(arms[i].origin->armed, s);
		s->state = SNAPBAK_STATE_ARMED;
		/* a state never moves back: one that broke meanwhile stays broken */
		spin_lock_irqsave(&s->hold_lock, flags);
		if (!s->broken) {
			/* after all that it says is true */
			smp_store_release(&header->state, SNAPBAK_STATE_ARMED);
		}
		snapbak_wake_library(s);
		spin_unlock_irqrestore(&s->hold_lock, flags);
	}
	arg->start_realtime_ns = realtime;
	arg->arm_ns = monotonic - shut_ns;
}

/* With all file systems thawed: nobody waits for it. */
static void publish_heat(struct arm *arm)
{
	struct snapbak_memory *m = arm->s->memory;
	struct snapbak_origin *origin = arm->origin;

	if (!m->geometry.heat_off)
		return;
	snapbak_heat_publish(m->header, (__u32 *)((u8 *)m->header + m->geometry.heat_off),
			     origin->heat, origin->nr_heat, snapbak_heat_now());
}

/* Jiffies until @deadline, 0 from then on. */
static long time_left(unsigned long deadline)
{
	return max((long)(deadline - jiffies), 0L);
}

/*
 * Freezes them in their order, and counts them in *frozen. *deadline: the first
 * has been frozen for as long as START may take. What is frozen is thawed then,
 * if there is a @watch.
 */
static int freeze_all(struct arm *arms, unsigned int nr, struct workqueue_struct *watch,
		      struct snapbak_start *arg, unsigned int *frozen, unsigned long *deadline)
{
	while (*frozen < nr) {
		struct arm *arm = &arms[*frozen];
		int ret = snapbak_compat_bdev_freeze(&arm->bdev);

		if (!ret) {
			if (!*frozen)
				*deadline = jiffies + msecs_to_jiffies(arg->timeout_ms) + 1;
			atomic_set(&arm->frozen, 1);
			if (watch)
				queue_delayed_work(watch, &arm->watch, time_left(*deadline));
			++*frozen;
			if (fatal_signal_pending(current))
				ret = -EINTR;
			else if (!time_left(*deadline))
				ret = -ETIMEDOUT;
		}
		if (ret) {
			arg->failed_dev = new_encode_dev(arm->origin->dev);
			return ret;
		}
	}
	return 0;
}

static int freeze_and_arm(struct arm *arms, unsigned int nr, struct workqueue_struct *watch,
			  struct snapbak_start *arg)
{
	unsigned int frozen = 0, i;
	unsigned long deadline = 0;
	u64 freeze_ns, shut_ns;
	long left;
	int ret;

	/* an origin at a time, while writes still go: makes the freeze short */
	for (i = 0; i < nr; i++)
		sync_blockdev(arms[i].bdev.bdev);

	/*
	 * Freezing a file system waits for three grace periods, during which its
	 * writers stand still: 50 to 250 ms become less than one.
	 */
	rcu_expedite_gp();
	freeze_ns = ktime_get_ns();
	ret = freeze_all(arms, nr, watch, arg, &frozen, &deadline);
	if (ret)
		goto undo;

	shut_ns = ktime_get_ns();
	for (i = 0; i < nr; i++)
		snapbak_gate_shut(arms[i].origin);
	/* if there is some, none was thawed before its gate was shut, where its writes wait */
	left = time_left(deadline);
	for (i = 0; i < nr; i++) {
		ret = left ? drain(arms[i].origin, arms, nr, &left) : -ETIMEDOUT;
		if (ret) {
			arg->failed_dev = new_encode_dev(arms[i].origin->dev);
			break;
		}
	}
	if (!ret)
		arm_all(arms, nr, shut_ns, arg);
	for (i = 0; i < nr; i++)
		snapbak_gate_open(arms[i].origin);
undo:
	while (frozen--)
		thaw(&arms[frozen]);
	for (i = 0; watch && i < nr; i++)
		cancel_delayed_work_sync(&arms[i].watch);
	arg->freeze_ns = ktime_get_ns() - freeze_ns;
	rcu_unexpedite_gp();
	for (i = 0; i < nr; i++)
		WRITE_ONCE(arms[i].s->memory->header->freeze_ns, arg->freeze_ns);
	for (i = 0; !ret && i < nr; i++)
		publish_heat(&arms[i]);
	return ret;
}

/* With the sessions' mutexes: may they be started? */
static int check(struct arm *arm)
{
	struct snapbak_session *s = arm->s;
	int ret = 0;

	if (!s->origin)
		return -ENOTCONN;
	if (s->memory && snapbak_broken(s))
		return -EPIPE;
	if (s->state != SNAPBAK_STATE_READY)
		return -EINVAL;
	arm->origin = s->origin;
	mutex_lock(&snapbak_origins_mutex);
	if (arm->origin->gone)
		ret = -ENODEV;
	mutex_unlock(&snapbak_origins_mutex);
	return ret;
}

/**
 * snapbak_start() - START.
 * @sessions: all of the backup, each with a reference; none twice. They are frozen
 *	in this order: one that stands on another comes before it.
 * @nr: how many, at least 1.
 * @arg: the request; filled in, after an error too.
 *
 * Context: process; may sleep.
 * Return: 0; -ENOTCONN, -EINVAL, -EPIPE for a session that is not ready;
 * -ETIMEDOUT if the writes in flight did not end in time, or freezing one while
 * another was frozen; -ECANCELED if a session broke meanwhile; -EINTR; what
 * freezing said. After an error nothing has changed.
 */
int snapbak_start(struct snapbak_session **sessions, unsigned int nr, struct snapbak_start *arg)
{
	struct workqueue_struct *watch = NULL;
	unsigned int locked, opened = 0;
	struct arm *arms;
	int ret = 0;

	arms = kcalloc(nr, sizeof(*arms), GFP_KERNEL);
	if (!arms)
		return -ENOMEM;
	if (nr > 1) {
		/* of its own: thaws wait for writes, and for each other */
		watch = alloc_workqueue("dm-snapbak-start", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
		if (!watch) {
			ret = -ENOMEM;
			goto free;
		}
	}
	ret = mutex_lock_killable(&snapbak_start_mutex);
	if (ret)
		goto destroy;
	for (locked = 0; locked < nr; locked++) {
		INIT_DELAYED_WORK(&arms[locked].watch, thaw_late);
		arms[locked].s = sessions[locked];
		mutex_lock_nest_lock(&sessions[locked]->mutex, &snapbak_start_mutex);
	}
	for (opened = 0; opened < nr; opened++) {
		ret = check(&arms[opened]);
		/* an open device is not removed meanwhile */
		if (!ret)
			ret = snapbak_compat_bdev_open(&arms[opened].bdev,
						       arms[opened].origin->dev);
		if (ret) {
			if (arms[opened].origin)
				arg->failed_dev = new_encode_dev(arms[opened].origin->dev);
			break;
		}
	}
	if (!ret)
		ret = freeze_and_arm(arms, nr, watch, arg);
	while (opened--)
		snapbak_compat_bdev_close(&arms[opened].bdev);
	while (locked--)
		mutex_unlock(&sessions[locked]->mutex);
	mutex_unlock(&snapbak_start_mutex);
destroy:
	if (watch)
		destroy_workqueue(watch);
free:
	kfree(arms);
	return ret;
}
