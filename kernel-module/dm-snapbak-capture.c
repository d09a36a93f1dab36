// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the blocks of a write safe before it goes on:
 * the driver's half of the claim protocol.
 *
 * A block's way, seen from a write that touches it:
 *   bit set, slot free   claim -> read the old block into the slot -> publish
 *                        CAPTURED (or INVALID) -> the write goes on
 *   bit set, no slot     held (hold.c): publish WANTED, wait, look again
 *   bit clear, in flight wait for the other write's capture
 *   bit clear            safe
 *
 * Reads are asynchronous: their completion publishes the event, and the last
 * one of a write hands it to the worker. A write first claims all that it
 * touches and only then, when its own captures are done, waits for others', so
 * no two writes wait for each other.
 */
#include "dm-snapbak.h"

static struct snapbak_bucket *bucket_of(struct snapbak_session *s, u64 block)
{
	return &s->buckets[block % SNAPBAK_NR_BUCKETS];
}

/**
 * snapbak_range_safe() - snapbak_safe() for any number of blocks.
 * @s: the armed session.
 * @first: the first block.
 * @end: one past the last.
 *
 * Context: any; does not sleep; under RCU or with a reference to @s.
 * Return: true if none is pending and none is being captured.
 */
bool snapbak_range_safe(struct snapbak_session *s, u64 first, u64 end)
{
	u64 nr, i;

	if (snapbak_bitmap_next_set(s->memory->bitmap, first, end) != end)
		return false;
	nr = min_t(u64, end - first, SNAPBAK_NR_BUCKETS);
	for (i = 0; i < nr; i++) {
		/* acquire: what was captured is published before the count falls */
		if (atomic_read_acquire(&bucket_of(s, first + i)->count))
			return false;
	}
	return true;
}

/**
 * snapbak_captures_idle() - is no capture under way?
 * @s: an armed session without a pending block.
 *
 * Context: any; does not sleep.
 * Return: true if every captured block's event is published.
 */
bool snapbak_captures_idle(struct snapbak_session *s)
{
	u64 nr = min_t(u64, s->memory->geometry.nr_blocks, SNAPBAK_NR_BUCKETS);

	return snapbak_range_safe(s, 0, nr);
}

/* Takes @block, if it is pending, into the table: it is @capture's until end_capture(). */
static bool claim(struct snapbak_session *s, struct snapbak_capture *capture, u64 block)
{
	struct snapbak_bucket *bucket = bucket_of(s, block);
	unsigned long flags;
	bool mine;

	spin_lock_irqsave(&bucket->lock, flags);
	/* the count before the bit, which is fully ordered: for those who look without the lock */
	atomic_inc(&bucket->count);
	mine = snapbak_bitmap_test_and_clear(s->memory->bitmap, block);
	if (mine) {
		capture->block = block;
		hlist_add_head(&capture->same, &bucket->captures);
	} else {
		atomic_dec(&bucket->count);
	}
	spin_unlock_irqrestore(&bucket->lock, flags);
	return mine;
}

/* With slots_lock held. */
static void store_slots_used(struct snapbak_session *s)
{
	WRITE_ONCE(s->memory->header->counters[SNAPBAK_C_SLOTS_USED],
		   snapbak_slots_used(&s->slots));
}

static void publish(struct snapbak_session *s, struct snapbak_capture *capture, int error)
{
	struct snapbak_event event = {
		.block = capture->block,
		.slot = capture->slot,
		.type = error ? SNAPBAK_EVENT_INVALID : SNAPBAK_EVENT_CAPTURED,
		.error = error,
	};
	u64 ns = ktime_to_ns(ktime_sub(ktime_get(), capture->since));
	unsigned long flags;

	/* counted before the library can be done with it */
	snapbak_count(s, error ? SNAPBAK_C_INVALID : SNAPBAK_C_CAPTURED, 1);
	snapbak_count(s, SNAPBAK_C_CAPTURE_NS, ns);
	spin_lock_irqsave(&s->slots_lock, flags);
	snapbak_count_time(s, SNAPBAK_H_CAPTURE, SNAPBAK_C_CAPTURE_MAX_NS, ns);
	snapbak_slots_publish(&s->slots, &event, 1);
	store_slots_used(s);
	spin_unlock_irqrestore(&s->slots_lock, flags);
}

/* The old content is in the slot, or could not be read. Any context. */
static void end_capture(struct bio *bio)
{
	struct snapbak_capture *capture = container_of(bio, struct snapbak_capture, bio);
	struct snapbak_io *io = capture->io;
	struct snapbak_session *s = io->session;
	struct snapbak_bucket *bucket = bucket_of(s, capture->block);
	LIST_HEAD(waiters);
	unsigned long flags;

	/*
	 * Published before the block leaves the table: a write that finds a
	 * block neither pending nor in flight may rely on its event.
	 */
	publish(s, capture, blk_status_to_errno(bio->bi_status));

	spin_lock_irqsave(&bucket->lock, flags);
	hlist_del(&capture->same);
	list_splice_init(&capture->waiters, &waiters);
	atomic_dec_return_release(&bucket->count);
	spin_unlock_irqrestore(&bucket->lock, flags);

	snapbak_wake_library(s);
	bio_put(bio);
	/*
	 * Our own write, still uncounted, keeps session and origin alive for the
	 * waiters; after the last line nothing of ours may be touched.
	 */
	snapbak_queue_list(io->origin, &waiters);
	if (atomic_dec_and_test(&io->pending)) {
		io->stage = SNAPBAK_WAIT;
		snapbak_queue(io);
	}
}

static struct snapbak_capture *new_capture(struct snapbak_io *io, bool may_sleep)
{
	struct snapbak_origin *origin = io->origin;
	unsigned short vecs = 1U << (io->session->memory->geometry.block_shift - PAGE_SHIFT);
	struct snapbak_capture *capture;
	struct bio *bio;

	/*
	 * Inside map() a wait for the pool could be a wait for a bio that this
	 * very thread has yet to submit; the worker submits as it goes.
	 */
	bio = snapbak_compat_bio_alloc(origin->lower->bdev, vecs,
				       may_sleep ? GFP_NOIO : GFP_NOWAIT | __GFP_NOWARN,
				       &origin->captures);
	if (!bio)
		return NULL;
	capture = container_of(bio, struct snapbak_capture, bio);
	INIT_LIST_HEAD(&capture->waiters);
	capture->io = io;
	return capture;
}

/* Reads the claimed block into its slot. @slot is the capture's from here on. */
static void submit_capture(struct snapbak_session *s, struct snapbak_capture *capture, u32 slot)
{
	const struct snapbak_shm *geometry = &s->memory->geometry;
	struct snapbak_io *io = capture->io;
	u64 offset = capture->block << geometry->block_shift;
	u32 bytes = min_t(u64, 1U << geometry->block_shift, geometry->origin_size - offset);

	capture->slot = slot;
	capture->since = ktime_get();
	capture->bio.bi_iter.bi_sector = io->origin->start + (offset >> SECTOR_SHIFT);
	capture->bio.bi_end_io = end_capture;
	atomic_inc(&io->pending);
	if (snapbak_memory_add_slot(s->memory, &capture->bio, slot, bytes)) {
		/* more pieces than the bio has room for: cannot be, see new_capture() */
		bio_io_error(&capture->bio);
		return;
	}
	submit_bio_noacct(&capture->bio);
}

/* What one round of claims came to. */
enum claimed {
	CLAIMED, /* go on from io->block */
	NO_SLOT,
	NO_MEMORY, /* not here: let the worker do it */
	RUBBISH, /* the library broke the rules */
};

/* Claims and reads what it can of [io->block, @end), all pending a moment ago. */
static enum claimed claim_run(struct snapbak_io *io, u64 end, bool may_sleep)
{
	struct snapbak_session *s = io->session;
	struct snapbak_capture *capture = NULL;
	u32 slots[SNAPBAK_MAX_RUN];
	unsigned long flags;
	int taken, used = 0;
	bool memory = true;

	spin_lock_irqsave(&s->slots_lock, flags);
	taken = snapbak_slots_take(&s->slots, end - io->block, slots);
	store_slots_used(s);
	spin_unlock_irqrestore(&s->slots_lock, flags);
	if (taken < 0)
		return RUBBISH;
	if (!taken)
		return NO_SLOT;

	for (; io->block < end && used < taken; io->block++) {
		if (!capture)
			capture = new_capture(io, may_sleep);
		if (!capture) {
			memory = false;
			break;
		}
		if (!claim(s, capture, io->block))
			continue;
		submit_capture(s, capture, slots[used++]);
		capture = NULL;
	}
	if (capture)
		bio_put(&capture->bio);
	if (used < taken) {
		spin_lock_irqsave(&s->slots_lock, flags);
		snapbak_slots_put_back(&s->slots, slots + used, taken - used);
		store_slots_used(s);
		spin_unlock_irqrestore(&s->slots_lock, flags);
		/* a write that found none of them free may be held by now: nobody else knows */
		snapbak_kick(s);
	}
	return memory ? CLAIMED : NO_MEMORY;
}

/**
 * snapbak_capture() - capture what is pending of a write's blocks.
 * @io: the write, inside the gate, with a session.
 * @may_sleep: the worker's context, not map()'s.
 *
 * Context: process.
 * Return: true if it may go on now; else it is not the caller's any more.
 */
bool snapbak_capture(struct snapbak_io *io, bool may_sleep)
{
	struct snapbak_session *s = io->session;
	u64 *bitmap = s->memory->bitmap;

	while (!snapbak_over(s)) {
		u64 run;

		/* never looked at twice once claimed: who sets bits again cannot keep us here */
		io->block = snapbak_bitmap_next_set(bitmap, io->block, io->end);
		if (io->block == io->end)
			break;
		run = snapbak_bitmap_next_clear(bitmap, io->block + 1,
						min(io->end, io->block + SNAPBAK_MAX_RUN));
		if (snapbak_delay(io, run - io->block))
			return false;
		switch (claim_run(io, run, may_sleep)) {
		case CLAIMED:
			break;
		case NO_SLOT:
			if (snapbak_hold(io))
				return false;
			break;
		case NO_MEMORY:
			snapbak_queue(io);
			return false;
		case RUBBISH:
			snapbak_count(s, SNAPBAK_C_PROTOCOL_ERRORS, 1);
			snapbak_break(s, SNAPBAK_REASON_PROTOCOL, -EPROTO);
			break;
		}
	}
	/* its own count while it claimed; the last read to end takes it on */
	io->stage = SNAPBAK_WAIT;
	if (!atomic_dec_and_test(&io->pending))
		return false;
	return snapbak_wait_for_others(io);
}

/* Puts @io on the first capture of @bucket that it has to wait for. */
static bool wait_in(struct snapbak_bucket *bucket, struct snapbak_io *io)
{
	struct snapbak_capture *capture;
	unsigned long flags;
	bool waits = false;

	/* acquire: who sees 0 sees what was done before it */
	if (!atomic_read_acquire(&bucket->count))
		return false;
	spin_lock_irqsave(&bucket->lock, flags);
	hlist_for_each_entry(capture, &bucket->captures, same) {
		if (capture->block < io->first || capture->block >= io->end)
			continue;
		/* once it is on the list, it may be gone: counted before */
		if (!io->waited)
			snapbak_count(io->session, SNAPBAK_C_WAITED, 1);
		io->waited = true;
		list_add_tail(&io->list, &capture->waiters);
		waits = true;
		break;
	}
	spin_unlock_irqrestore(&bucket->lock, flags);
	return waits;
}

/**
 * snapbak_wait_for_others() - wait for blocks that other writes are capturing.
 * @io: the write; nothing of it is pending, and its own captures are done.
 *
 * Context: any; does not sleep.
 * Return: true if it may go on now; else it is not the caller's any more.
 */
bool snapbak_wait_for_others(struct snapbak_io *io)
{
	struct snapbak_session *s = io->session;
	u64 nr = min_t(u64, io->end - io->first, SNAPBAK_NR_BUCKETS);
	u64 i;

	for (i = 0; i < nr; i++) {
		if (wait_in(bucket_of(s, io->first + i), io))
			return false;
	}
	return true;
}
