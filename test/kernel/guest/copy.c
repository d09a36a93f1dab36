// SPDX-License-Identifier: MIT
#include "copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* So long at most does a wait last before the whole state is looked at again. */
#define WAIT_MS 300

/* News may come in the very moment of the time-out, but not this often. */
#define MAX_OVERSLEPT 3

void copy_init(struct copy *copy, struct session *session, const struct copy_options *options,
	       copy_store *store, void *context)
{
	*copy = (struct copy){
		.session = session,
		.options = *options,
		.store = store,
		.context = context,
		.random = { .state = options->seed },
		.blocks = allocate(session->shm->nr_blocks),
		.with_us = allocate(session->shm->nr_slots),
		.buffer = allocate_aligned((size_t)options->run_blocks << session->shm->block_shift),
	};
}

void copy_release(struct copy *copy)
{
	free(copy->blocks);
	free(copy->with_us);
	free(copy->buffer);
}

void copy_list(struct copy *copy, __u64 first, __u64 count)
{
	__u64 block;

	snapbak_bitmap_set_range(copy->session->bitmap, first, count);
	for (block = first; block < first + count; block++) {
		copy->left += copy->blocks[block] == COPY_UNLISTED;
		copy->blocks[block] = COPY_LISTED;
	}
}

static int fault(struct copy *copy, const char *what, __u64 block)
{
	static const char *const names[] = { "unlisted", "listed", "stored", "invalid" };
	const char *name = block < copy->session->shm->nr_blocks ? names[copy->blocks[block]] : "beyond the end";

	snprintf(copy->fault, sizeof(copy->fault), "%s: block %llu (%s)", what, block, name);
	return -EPROTO;
}

/* For the driver's watchdog. */
static void progress(struct copy *copy)
{
	__atomic_fetch_add(&copy->session->shm->heartbeat, 1, __ATOMIC_RELAXED);
}

static int store(struct copy *copy, __u64 block, const void *data)
{
	int error = copy->store(copy->context, data, session_block_bytes(copy->session, block),
				block << copy->session->shm->block_shift);

	copy->blocks[block] = COPY_STORED;
	copy->left--;
	progress(copy);
	return error;
}

static int take_captured(struct copy *copy, const struct snapbak_event *event)
{
	int error;

	if (event->slot >= copy->session->shm->nr_slots || copy->with_us[event->slot])
		return fault(copy, "captured into a slot that is not the driver's", event->block);
	copy->with_us[event->slot] = 1;
	copy->counts.captured++;
	error = store(copy, event->block, session_slot(copy->session, event->slot));
	sleep_us(copy->options.drain_delay_us);
	copy->with_us[event->slot] = 0;
	snapbak_ring_put_slot(&copy->session->free, 0, event->slot);
	snapbak_ring_publish(&copy->session->free, 1);
	return error;
}

/* Stores those of a run that are still pending; the run has been read. */
static int claim(struct copy *copy, __u64 first, __u64 count)
{
	__u64 *bitmap = copy->session->bitmap;
	const char *data = copy->buffer;
	const __u64 start = first;
	int error = 0;

	while (count && !error) {
		__u64 in_word = SNAPBAK_WORD_BITS - first % SNAPBAK_WORD_BITS;
		__u64 n = count < in_word ? count : in_word;
		__u64 ours = snapbak_bitmap_claim(bitmap, first, n);
		__u64 base = first - first % SNAPBAK_WORD_BITS;

		for (; ours && !error; ours &= ours - 1) {
			__u64 block = base + snapbak_lowest_bit(ours);

			if (copy->blocks[block] != COPY_LISTED)
				return fault(copy, "claimed", block);
			copy->counts.swept++;
			error = store(copy, block, data + ((block - start) << copy->session->shm->block_shift));
		}
		first += n;
		count -= n;
	}
	return error;
}

/* A block that cannot be read is claimed all the same, or its writers would wait for ever. */
static int give_up(struct copy *copy, __u64 block)
{
	if (!snapbak_bitmap_claim(copy->session->bitmap, block, 1))
		return 0;
	copy->blocks[block] = COPY_INVALID;
	copy->left--;
	copy->counts.unreadable++;
	progress(copy);
	return 0;
}

static int copy_run_of(struct copy *copy, __u64 first, __u64 count)
{
	const struct session *session = copy->session;
	__u64 offset = first << session->shm->block_shift;
	__u64 bytes = count << session->shm->block_shift;
	int error;

	if (bytes > session->shm->origin_size - offset)
		bytes = session->shm->origin_size - offset;
	copy->counts.reads++;
	error = read_fully(session->lower.fd, copy->buffer, bytes, session->opened.lower_offset + offset);
	if (!error)
		return claim(copy, first, count);
	if (count == 1)
		return give_up(copy, first);
	for (error = 0; count && !error; first++, count--)
		error = copy_run_of(copy, first, 1);
	return error;
}

static int take_event(struct copy *copy, const struct snapbak_event *event)
{
	if (event->block >= copy->session->shm->nr_blocks || copy->blocks[event->block] == COPY_UNLISTED)
		return fault(copy, "event for", event->block);
	if (event->type == SNAPBAK_EVENT_WANTED) {
		copy->counts.wanted++;
		return snapbak_bitmap_test(copy->session->bitmap, event->block) ?
			       copy_run_of(copy, event->block, 1) :
			       0;
	}
	if (copy->blocks[event->block] != COPY_LISTED)
		return fault(copy, "second content for", event->block);
	if (snapbak_bitmap_test(copy->session->bitmap, event->block))
		return fault(copy, "event before the bit was cleared for", event->block);
	if (event->type == SNAPBAK_EVENT_CAPTURED)
		return take_captured(copy, event);
	if (event->type != SNAPBAK_EVENT_INVALID || event->error >= 0)
		return fault(copy, "event of no known type for", event->block);
	copy->counts.invalid++;
	copy->blocks[event->block] = COPY_INVALID;
	copy->left--;
	progress(copy);
	return 0;
}

static int take_events(struct copy *copy)
{
	__s64 ready = snapbak_ring_ready(&copy->session->events);
	__s64 i;

	if (ready < 0)
		return fault(copy, "impossible head of the event ring", 0);
	for (i = 0; i < ready; i++) {
		struct snapbak_event event = snapbak_ring_get_event(&copy->session->events, 0);
		int error = take_event(copy, &event);

		if (error)
			return error;
		snapbak_ring_release(&copy->session->events, 1);
		error = session_kick_waiting(copy->session);
		if (error)
			return error;
	}
	return ready > 0;
}

/* The next run of the sweep, from a random place on. */
static int sweep(struct copy *copy)
{
	const __u64 *bitmap = copy->session->bitmap;
	__u64 nr = copy->session->shm->nr_blocks;
	__u64 from = random_below(&copy->random, nr);
	__u64 longest = 1 + random_below(&copy->random, copy->options.run_blocks);
	__u64 first = snapbak_bitmap_next_set(bitmap, from, nr);
	__u64 end;
	int error;

	if (first == nr)
		first = snapbak_bitmap_next_set(bitmap, 0, nr);
	if (first == nr)
		return 0;
	end = snapbak_bitmap_next_clear(bitmap, first, first + longest < nr ? first + longest : nr);
	if (end == first)
		return 1;
	error = copy_run_of(copy, first, end - first);
	if (!error)
		error = session_kick_waiting(copy->session);
	sleep_us(copy->options.sweep_delay_us);
	return error ? error : 1;
}

int copy_step(struct copy *copy)
{
	int did, swept;

	if (session_state(copy->session) == SNAPBAK_STATE_BROKEN)
		return -ECONNABORTED;
	did = take_events(copy);
	if (did < 0 || !copy->options.sweep || !copy->left)
		return did;
	swept = sweep(copy);
	return swept < 0 ? swept : did | swept;
}

/* Nobody is asleep for so long while there is news, if the driver wakes as it must. */
int copy_wait(struct copy *const copies[], unsigned int count)
{
	struct session *sessions[SNAPBAK_MAX_ORIGINS];
	unsigned int i;
	int error;

	for (i = 0; i < count; i++)
		sessions[i] = copies[i]->session;
	error = session_wait(sessions, count, WAIT_MS);
	if (error == -EINTR)
		return 0;
	if (error != -ETIME)
		return error;
	for (i = 0; i < count; i++)
		if (session_has_news(sessions[i]) && ++copies[i]->overslept >= MAX_OVERSLEPT)
			return fault(copies[i], "no wake-up for an event or an end", 0);
	return 0;
}

int copy_run(struct copy *const copies[], unsigned int count)
{
	for (;;) {
		struct copy *waiting[SNAPBAK_MAX_ORIGINS];
		unsigned int i, n = 0;
		int did = 0;

		for (i = 0; i < count; i++) {
			int step = copies[i]->left ? copy_step(copies[i]) : 0;

			if (step < 0)
				return step;
			did |= step;
			if (copies[i]->left)
				waiting[n++] = copies[i];
		}
		if (!n)
			return 0;
		if (!did) {
			int error = copy_wait(waiting, n);

			if (error)
				return error;
		}
	}
}
