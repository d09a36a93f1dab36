/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel driver's own types, and the order of its locks.
 *
 * A write's way: map (target.c) -> gate (gate.c) -> pending? no: remap and
 * return. Yes: claim, slot, read of the old block (capture.c) -> event ring ->
 * release of the write. Held and delayed writes wait in hold.c. The sessions
 * that decide about all this live in session.c, their descriptors in
 * control.c, START in arm.c, the shared memory in memory.c.
 *
 * Locks, outer first:
 *
 *   snapbak_start_mutex      one START at a time; sleeps
 *   session->mutex           requests of one descriptor; sleeps; several at
 *                            once only under snapbak_start_mutex
 *   snapbak_origins_mutex    the list of origins, which session an origin has;
 *                            sleeps, held briefly
 *   session->hold_lock       held and delayed writes, the end of a session; irq
 *   session->slots_lock      slots and rings; irq
 *   bucket->lock             captures in flight; irq; a leaf
 *   origin->lock             writes for the worker, the gate's queue; irq; a leaf
 *
 * Owners: an origin lives as long as its target or a session refers to it; a
 * session as long as its descriptor or a write that it made wait. A write that
 * only passes holds nothing: it looks at origin->armed under RCU.
 */
#ifndef DM_SNAPBAK_H
#define DM_SNAPBAK_H

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/build_bug.h>
#include <linux/device-mapper.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat/dm-snapbak-compat.h"
#include "core/snapbak_bitmap.h"
#include "core/snapbak_heat.h"
#include "core/snapbak_hints.h"
#include "core/snapbak_histogram.h"
#include "core/snapbak_layout.h"
#include "core/snapbak_ring.h"
#include "core/snapbak_slots.h"
#include "core/snapbak_throttle.h"

#define DM_MSG_PREFIX "snapbak"
#define SNAPBAK_VERSION "0.1.0"

/* Blocks that one write claims at a time. */
#define SNAPBAK_MAX_RUN 64
#define SNAPBAK_NR_BUCKETS 256

static_assert(PAGE_SIZE == SNAPBAK_PAGE, "dm-snapbak needs pages of 4 KiB");
static_assert(BITS_PER_LONG == 64, "dm-snapbak needs a 64-bit kernel");

struct snapbak_session;

/**
 * struct snapbak_origin - one device-mapper target.
 * @list: in snapbak_origins.
 * @ref: the target's, and one for each session on it.
 * @dev: number of the device-mapper device.
 * @lower: the lower device; valid until @gone.
 * @start: where on it the origin begins, sectors.
 * @size: bytes.
 * @ti: the target; valid until @gone.
 * @live: its table is the device's live one. Written under snapbak_origins_mutex.
 * @suspended: between postsuspend and resume: nobody knows yet whether this
 *	table comes back, so no session may be called finished.
 * @gone: the target was destroyed. Written under snapbak_origins_mutex.
 * @session: whoever opened a session on it last; under snapbak_origins_mutex.
 * @armed: the session whose bitmap writes look at; written with the gate shut
 *	and drained (to arm) or at any time (to disarm); read under RCU.
 * @heat: when each region was written last; by any writer, read at START, by
 *	READ_ONCE and WRITE_ONCE alone: nothing depends on what it says.
 * @nr_heat: regions.
 * @heat_shift: a region's sectors, as a power of two.
 * @inside: writes between gate and completion, one count a processor.
 * @shut: the gate is shut; written under @lock, see gate.c for its order.
 * @lock: guards the two lists.
 * @gated: writes that came while the gate was shut.
 * @ready: writes for the worker.
 * @work: the worker, on @wq.
 * @wq: memory-reclaim work queue of this origin alone.
 * @captures: bios of struct snapbak_capture.
 */
struct snapbak_origin {
	struct list_head list;
	struct kref ref;
	dev_t dev;
	struct dm_dev *lower;
	sector_t start;
	u64 size;
	struct dm_target *ti;
	bool live;
	bool suspended;
	bool gone;
	struct snapbak_session *session;

	u32 *heat;
	u32 nr_heat;
	u32 heat_shift;

	struct snapbak_session __rcu *armed;
	int __percpu *inside;
	unsigned int shut;

	spinlock_t lock; /* of the two lists */
	struct list_head gated;
	struct list_head ready;
	struct work_struct work;
	struct workqueue_struct *wq;
	struct bio_set captures;
};

/* What a write does next when the worker takes it. */
enum snapbak_stage {
	SNAPBAK_ENTER, /* pass the gate, look at the session */
	SNAPBAK_CLAIM, /* claim pending blocks of [block, end) and read them */
	SNAPBAK_WAIT, /* wait for captures of other writes in [first, end) */
};

/**
 * struct snapbak_io - one write on its way; the target's part of its bio.
 * @list: in one list at a time: gated, ready, held, delayed, a capture's waiters.
 * @same: in session->held_blocks while held.
 * @origin: where it goes.
 * @session: the session that it waits for, with a reference; NULL if none.
 * @first: the first block that it touches.
 * @block: the next block to claim; only moves forward.
 * @end: one past the last block that it touches.
 * @expires: delayed: when it goes on.
 * @since: held or delayed: since when.
 * @deadline: held: when the session's patience ends; set by its first hold.
 * @pending: its captures under way, and 1 while it claims.
 * @stage: what it does next.
 * @inside: it counts as inside the gate.
 * @delayed: it has had its delay.
 * @waited: it has waited for another's capture.
 * @wanted: a WANTED event for @block is out, its own or another's.
 */
struct snapbak_io {
	struct list_head list;
	struct hlist_node same;
	struct snapbak_origin *origin;
	struct snapbak_session *session;
	u64 first;
	u64 block;
	u64 end;
	ktime_t expires;
	ktime_t since;
	ktime_t deadline;
	atomic_t pending;
	enum snapbak_stage stage;
	bool inside;
	bool delayed;
	bool waited;
	bool wanted;
};

/**
 * struct snapbak_capture - one block whose old content is being read.
 * @same: in its bucket.
 * @waiters: other writes that wait for it; under the bucket's lock.
 * @io: the write that claimed it.
 * @block: which.
 * @slot: where to.
 * @since: when the read began.
 * @bio: the read.
 */
struct snapbak_capture {
	struct hlist_node same;
	struct list_head waiters;
	struct snapbak_io *io;
	u64 block;
	u32 slot;
	ktime_t since;
	struct bio bio;
};

/*
 * @count is raised before a pending bit is cleared and lowered after the
 * capture: who sees the bit clear and then the count 0 knows, without the
 * lock, that no capture of the bucket's blocks is under way.
 */
struct snapbak_bucket {
	spinlock_t lock; /* of the list, and of a claim */
	atomic_t count;
	struct hlist_head captures;
} ____cacheline_aligned;

/**
 * struct snapbak_memory - the shared memory of a session.
 * @geometry: sizes and offsets as computed; never read back from the mapping.
 * @pages: all pages of the mapping, each with a reference of its own.
 * @nr_pages: how many.
 * @header: header, bitmap and rings, mapped in the kernel; the slots are not.
 * @bitmap: in @header.
 */
struct snapbak_memory {
	struct snapbak_shm geometry;
	struct page **pages;
	unsigned long nr_pages;
	struct snapbak_shm *header;
	u64 *bitmap;
};

/**
 * struct snapbak_session - one control descriptor, and the backup that it asks for.
 * @ref: the descriptor's, and one for each write that waits.
 * @mutex: serialises requests; guards @state and @origin.
 * @state: up to ARMED, and FINISHED; @broken overrides it.
 * @origin: with a reference, from OPEN on.
 * @memory: from SETUP on; published with release, constant afterwards.
 * @owner: the process that made SETUP: the library's.
 * @on_full: enum snapbak_on_full.
 * @hold_ns: how long a write may be held.
 * @stall_ns: how long, while writes are held, the library may make no progress; 0: for ever.
 * @hints: hints written, ever; under snapbak_origins_mutex, read without it.
 * @wait: the descriptor's poll queue.
 * @slots_lock: guards @slots.
 * @buckets: captures in flight.
 * @hold_lock: guards what follows.
 * @broken: the session is over; set once, read without the lock.
 * @finished: FINISH succeeded; excludes @broken.
 * @held: writes for which no slot was free, the longest held first.
 * @nr_held: how many; mirrored to the header's driver_waiting.
 * @held_blocks: the same by block, so that one WANTED is sent a block.
 * @hold_timer: runs while a write is held: its deadline, and whether @owner lives and gets on.
 * @heartbeat: the library's last sign of progress, as @hold_timer saw it.
 * @heartbeat_at: when that changed, or the first write was held.
 * @delayed: writes that the throttle delays, by time of expiry.
 * @next_departure: ns of ktime_get(): when the last of them goes on.
 * @delay_timer: at the first expiry of @delayed.
 */
struct snapbak_session {
	struct kref ref;
	struct mutex mutex; /* of requests */
	enum snapbak_state state;
	struct snapbak_origin *origin;
	struct snapbak_memory *memory;
	struct pid *owner;
	u32 on_full;
	u64 hold_ns;
	u64 stall_ns;
	u32 hints;
	wait_queue_head_t wait;

	spinlock_t slots_lock; /* of slots */
	struct snapbak_slots slots;
	struct snapbak_bucket *buckets;

	spinlock_t hold_lock; /* of all below */
	bool broken;
	bool finished;
	struct list_head held;
	unsigned int nr_held;
	struct hlist_head held_blocks[64];
	struct hrtimer hold_timer;
	u64 heartbeat;
	ktime_t heartbeat_at;
	struct list_head delayed;
	u64 next_departure;
	struct hrtimer delay_timer;
};

extern struct mutex snapbak_origins_mutex;
extern struct list_head snapbak_origins;

/*
 * Where START waits for writes and FINISH for a suspended device: woken when a
 * write leaves through a shut gate, when a session breaks, and when an origin's
 * suspended or gone changes. One for all: who waits here is rare.
 */
extern wait_queue_head_t snapbak_gate_wait;

/* target.c */
void snapbak_origin_put(struct snapbak_origin *origin);
struct snapbak_origin *snapbak_origin_find(dev_t dev);
void snapbak_origin_name(struct snapbak_origin *origin, u8 *buf, size_t size);

/* gate.c */
bool snapbak_gate_park(struct snapbak_io *io);
void snapbak_gate_shut(struct snapbak_origin *origin);
void snapbak_gate_open(struct snapbak_origin *origin);
bool snapbak_gate_empty(struct snapbak_origin *origin);

/* capture.c */
bool snapbak_range_safe(struct snapbak_session *s, u64 first, u64 end);
bool snapbak_capture(struct snapbak_io *io, bool may_sleep);
bool snapbak_wait_for_others(struct snapbak_io *io);
bool snapbak_captures_idle(struct snapbak_session *s);

/* hold.c */
bool snapbak_hold(struct snapbak_io *io);
bool snapbak_delay(struct snapbak_io *io, u64 blocks);
void snapbak_kick(struct snapbak_session *s);
void snapbak_break(struct snapbak_session *s, enum snapbak_reason reason, int error);
bool snapbak_finish(struct snapbak_session *s);
void snapbak_hold_init(struct snapbak_session *s);
void snapbak_hold_exit(struct snapbak_session *s);

/* worker.c */
void snapbak_queue(struct snapbak_io *io);
void snapbak_queue_list(struct snapbak_origin *origin, struct list_head *list);
void snapbak_worker(struct work_struct *work);

/* memory.c */
struct snapbak_memory *snapbak_memory_alloc(u64 origin_size, u32 block_shift, u32 nr_slots,
					    u32 flags);
void snapbak_memory_free(struct snapbak_memory *m);
int snapbak_memory_map(struct snapbak_memory *m, struct vm_area_struct *vma);
int snapbak_memory_add_slot(struct snapbak_memory *m, struct bio *bio, u32 slot, u32 bytes);
void snapbak_memory_rings(struct snapbak_memory *m, struct snapbak_ring *events,
			  struct snapbak_ring *returned);

/* session.c */
struct snapbak_session *snapbak_session_new(void);
void snapbak_session_put(struct snapbak_session *s);
int snapbak_session_open(struct snapbak_session *s, struct snapbak_open *arg);
int snapbak_session_setup(struct snapbak_session *s, struct snapbak_setup *arg);
int snapbak_session_finish(struct snapbak_session *s);
int snapbak_session_abort(struct snapbak_session *s, u32 reason);
void snapbak_session_close(struct snapbak_session *s);
int snapbak_status(struct snapbak_status *arg);
int snapbak_hint(const struct snapbak_hint *arg);
void snapbak_wake_library(struct snapbak_session *s);

/* arm.c */
int snapbak_start(struct snapbak_session **sessions, unsigned int nr, struct snapbak_start *arg);

/* control.c */
int snapbak_control_init(void);
void snapbak_control_exit(void);

/* What time it is for @heat: jiffies count from 2^32 - 300 s on, so that this is never 0. */
static inline u32 snapbak_heat_now(void)
{
	u64 now = get_jiffies_64();

	return (u32)(now >> (ilog2(HZ) - 2));
}

/* The session's memory, once SETUP has made it; constant from then on. */
static inline struct snapbak_memory *snapbak_session_memory(const struct snapbak_session *s)
{
	return smp_load_acquire(&s->memory); /* pairs with the release in SETUP */
}

static inline bool snapbak_broken(const struct snapbak_session *s)
{
	return READ_ONCE(s->broken);
}

/* Broken or finished: no write is captured, held or delayed any more. */
static inline bool snapbak_over(const struct snapbak_session *s)
{
	return snapbak_broken(s) || READ_ONCE(s->finished);
}

static inline void snapbak_count(struct snapbak_session *s, enum snapbak_counter counter, u64 n)
{
	atomic64_add(n, (atomic64_t *)&s->memory->header->counters[counter]);
}

/* A time, into its histogram and to @longest. Under the lock that all times of its kind share. */
static inline void snapbak_count_time(struct snapbak_session *s, enum snapbak_histogram histogram,
				      enum snapbak_counter longest, u64 ns)
{
	struct snapbak_shm *header = s->memory->header;
	__u64 *bucket = &header->histograms[histogram][snapbak_histogram_bucket(ns)];

	WRITE_ONCE(*bucket, READ_ONCE(*bucket) + 1);
	if (ns > READ_ONCE(header->counters[longest]))
		WRITE_ONCE(header->counters[longest], ns);
}

static inline struct snapbak_session *snapbak_session_get(struct snapbak_session *s)
{
	kref_get(&s->ref);
	return s;
}

static inline struct bio *snapbak_io_bio(struct snapbak_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(*io));
}

/**
 * snapbak_gate_enter() - go inside, unless the gate is shut.
 * @origin: whose gate.
 *
 * Context: any; does not sleep.
 * Return: true if inside; the caller leaves when the write has completed.
 */
static inline bool snapbak_gate_enter(struct snapbak_origin *origin)
{
	bool shut;

	preempt_disable();
	this_cpu_inc(*origin->inside);
	smp_mb(); /* count before shut; pairs with snapbak_gate_shut() */
	/* acquire: who finds it open again sees what was armed */
	shut = smp_load_acquire(&origin->shut);
	if (unlikely(shut))
		this_cpu_dec(*origin->inside);
	preempt_enable();
	return !shut;
}

/**
 * snapbak_gate_leave() - a write that was inside has completed.
 * @origin: whose gate; device-mapper keeps the target until we return.
 *
 * Context: any; does not sleep.
 */
static inline void snapbak_gate_leave(struct snapbak_origin *origin)
{
	this_cpu_dec(*origin->inside);
	smp_mb(); /* count before shut; pairs with the sleeper's look at the counts */
	if (unlikely(READ_ONCE(origin->shut)))
		wake_up_all(&snapbak_gate_wait);
}

/*
 * May a write to these blocks go on without more ado? Nearly always the answer
 * is yes, and the write is to one block: that way has no call and no loop.
 * Under RCU or with a reference to the session.
 */
static inline bool snapbak_safe(struct snapbak_session *s, u64 first, u64 end)
{
	if (end - first == 1 && !snapbak_bitmap_test(s->memory->bitmap, first) &&
	    /* acquire: what was captured is published before the count falls */
	    !atomic_read_acquire(&s->buckets[first % SNAPBAK_NR_BUCKETS].count))
		return true;
	return snapbak_broken(s) || snapbak_range_safe(s, first, end);
}

/* The blocks that a write touches; its bio points at the lower device already. */
static inline void snapbak_io_blocks(struct snapbak_io *io, const struct bio *bio,
				     const struct snapbak_session *s)
{
	unsigned int shift = s->memory->geometry.block_shift - SECTOR_SHIFT;
	sector_t first = bio->bi_iter.bi_sector - io->origin->start;

	io->first = first >> shift;
	io->block = io->first;
	io->end = ((first + bio_sectors(bio) - 1) >> shift) + 1;
}

#endif /* DM_SNAPBAK_H */
