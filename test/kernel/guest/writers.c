// SPDX-License-Identifier: MIT
#include "writers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST ((__u64)(1 << 20) + (1 << 19)) /* bytes of one request */
#define PAGE_SECTORS 8

/* How often a kind comes, if it is among the kinds at all. */
static const unsigned int weights[REQUEST_KINDS] = {
	[REQUEST_WRITE] = 40,	  [REQUEST_DSYNC] = 8,	     [REQUEST_NOWAIT] = 12,
	[REQUEST_ZEROOUT] = 6,	  [REQUEST_ZERO_RANGE] = 4,  [REQUEST_PUNCH_HOLE] = 4,
	[REQUEST_DISCARD] = 5,	  [REQUEST_SECURE_DISCARD] = 2, [REQUEST_FLUSH] = 2,
};

struct range {
	__u64 first, count; /* sectors */
};

static enum request_kind draw_kind(struct writer *writer)
{
	unsigned int sum = 0, drawn;
	enum request_kind kind;

	for (kind = 0; kind < REQUEST_KINDS; kind++)
		sum += writer->all->options.kinds >> kind & 1 ? weights[kind] : 0;
	drawn = (unsigned int)random_below(&writer->random, sum);
	for (kind = 0;; kind++) {
		unsigned int weight = writer->all->options.kinds >> kind & 1 ? weights[kind] : 0;

		if (drawn < weight)
			return kind;
		drawn -= weight;
	}
}

/* Mostly less than a block, often a few blocks, now and then more than a MiB. */
static __u64 draw_bytes(struct writer *writer)
{
	__u64 block = writer->all->options.block_size;
	__u64 longest;

	switch (random_below(&writer->random, 8)) {
	case 0:
		longest = LONGEST;
		break;
	case 1:
	case 2:
		longest = 5 * block;
		break;
	default:
		longest = block;
	}
	return 1 + random_below(&writer->random, longest < LONGEST ? longest : LONGEST);
}

static struct range draw_range(struct writer *writer)
{
	struct writers *all = writer->all;
	__u64 unit = all->target.direct.sector_size / SECTOR;
	__u64 sectors = all->contents->file->sectors;
	__u64 count = draw_bytes(writer) / SECTOR / unit * unit;
	__u64 first;

	if (count < unit)
		count = unit;
	/* a hot place makes requests meet in one block; the end of the device has the short block */
	switch (random_below(&writer->random, 8)) {
	case 0:
		first = sectors - (random_below(&writer->random, 2 * all->options.block_size / SECTOR) % sectors) - 1;
		break;
	case 1:
		first = random_below(&writer->random, sectors) / 64;
		break;
	default:
		first = random_below(&writer->random, sectors);
	}
	first -= first % unit;
	if (first < all->buffered_end && first + count > all->buffered_first) {
		if (first >= all->buffered_first)
			first = all->buffered_end;
		else
			count = all->buffered_first - first;
	}
	if (count > sectors - first)
		count = sectors - first;
	return (struct range){ first, count };
}

static struct range draw_buffered_range(struct writer *writer)
{
	__u64 pages = (writer->all->buffered_end - writer->all->buffered_first) / PAGE_SECTORS;
	__u64 first = random_below(&writer->random, pages);
	__u64 count = 1 + random_below(&writer->random, 64);

	if (count > pages - first)
		count = pages - first;
	return (struct range){ writer->all->buffered_first + first * PAGE_SECTORS, count * PAGE_SECTORS };
}

static void log_run(struct writer *writer, __u64 first, __u64 count, __u32 generation, __u64 submitted)
{
	struct history_entry entry = {
		.first = first,
		.count = count,
		.generation = generation,
		.submitted = submitted,
		.acknowledged = now_ns(),
	};

	history_add(&writer->history, &entry);
	contents_set(writer->all->contents, first, count, generation);
}

/* It may have reached each of its sectors, or not. */
static void log_failure(struct writer *writer, struct range range, __u32 generation, __u64 submitted)
{
	struct history_entry entry = {
		.first = range.first,
		.count = range.count,
		.generation = generation,
		.submitted = submitted,
		.acknowledged = now_ns(),
	};

	history_add(&writer->failed, &entry);
	contents_set(writer->all->contents, range.first, range.count, CONTENTS_UNKNOWN);
}

/* After a request that may leave each sector or zero it: look which it was. */
static void look_back(struct writer *writer, struct range range, __u64 submitted)
{
	const struct contents_file *file = writer->all->contents->file;
	int error = read_fully(writer->all->target.direct.fd, writer->look, range.count * SECTOR, range.first * SECTOR);
	__u64 i, zeroes = 0;

	if (error == -EIO && writer->all->options.may_fail) {
		log_failure(writer, range, 0, submitted);
		return;
	}
	if (error)
		die("reading back %llu sectors at %llu: %s", range.count, range.first, strerror(-error));
	for (i = 0; i <= range.count; i++) {
		const unsigned char *data = writer->look + i * SECTOR;
		__s64 is = i < range.count ? stamp_read(data, file->seed, range.first + i) : STAMP_RUBBISH;

		if (!is && file->generation[range.first + i]) {
			zeroes++;
			continue;
		}
		if (zeroes)
			log_run(writer, range.first + i - zeroes, zeroes, 0, submitted);
		zeroes = 0;
		if (i < range.count && is != file->generation[range.first + i] &&
		    file->generation[range.first + i] != CONTENTS_UNKNOWN)
			die("a discard turned sector %llu of generation %u into %lld", range.first + i,
			    file->generation[range.first + i], is);
	}
}

static void one_request(struct writer *writer)
{
	struct writers *all = writer->all;
	int buffered = all->buffered_end && writer->number == all->options.threads - 1;
	enum request_kind kind = buffered ? REQUEST_BUFFERED : draw_kind(writer);
	struct range range = buffered ? draw_buffered_range(writer) : draw_range(writer);
	__u32 generation = 0;
	__u64 submitted;
	int error;

	range_lock_take(&all->ranges, writer->number, range.first, range.first + range.count);
	if (request_has_data(kind)) {
		generation = contents_next(all->contents);
		stamp_fill(writer->data, all->contents->file->seed, range.first, range.count, generation);
	}
	if (all->options.quiesce)
		pthread_rwlock_rdlock(&all->gate);
	submitted = now_ns();
	error = request_issue(&all->target, kind, writer->data, range.count * SECTOR, range.first * SECTOR,
			      &writer->counts);
	if (error == -EIO && all->options.may_fail) {
		if (kind != REQUEST_FLUSH)
			log_failure(writer, range, generation, submitted);
		goto out;
	}
	if (error && (error != -EOPNOTSUPP || request_has_data(kind)))
		die("%s of %llu sectors at %llu: %s", request_names[kind], range.count, range.first, strerror(-error));
	if (request_has_data(kind) || (!error && request_is_zeroing(kind)))
		log_run(writer, range.first, range.count, generation, submitted);
	else if (kind != REQUEST_FLUSH)
		look_back(writer, range, submitted);
out:
	if (all->options.quiesce)
		pthread_rwlock_unlock(&all->gate);
	range_lock_leave(&all->ranges, writer->number);
	atomic_fetch_add(&all->requests, 1);
}

static void *run(void *argument)
{
	struct writer *writer = argument;

	while (!atomic_load(&writer->all->stop)) {
		one_request(writer);
		if (writer->all->options.pause_us)
			sleep_us(random_below(&writer->random, writer->all->options.pause_us));
	}
	return NULL;
}

static void start_writer(struct writers *writers, unsigned int number)
{
	struct writer *writer = &writers->writer[number];

	writer->all = writers;
	writer->number = number;
	writer->random.state = mix64(writers->options.seed + number);
	writer->data = allocate_aligned(LONGEST);
	writer->look = allocate_aligned(LONGEST);
	if (pthread_create(&writer->thread, NULL, run, writer))
		die("no thread");
}

void writers_start(struct writers *writers, const struct writers_options *options, const char *device,
		   struct contents *contents)
{
	pthread_rwlockattr_t prefer_writer;
	unsigned int i;
	int error;

	memset(writers, 0, sizeof(*writers));
	writers->options = *options;
	writers->contents = contents;
	error = request_target_open(&writers->target, device);
	if (error)
		die("%s: %s", device, strerror(-error));
	if (writers->target.direct.bytes != contents->file->sectors * SECTOR)
		die("%s has %llu bytes, its contents are of %llu sectors", device, writers->target.direct.bytes,
		    contents->file->sectors);
	if (options->kinds >> REQUEST_BUFFERED & 1) {
		writers->buffered_first = contents->file->sectors / 2 / PAGE_SECTORS * PAGE_SECTORS;
		writers->buffered_end = writers->buffered_first +
					contents->file->sectors / 16 / PAGE_SECTORS * PAGE_SECTORS;
	}
	range_lock_init(&writers->ranges);
	pthread_rwlockattr_init(&prefer_writer);
	pthread_rwlockattr_setkind_np(&prefer_writer, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&writers->gate, &prefer_writer);
	for (i = 0; i < options->threads; i++)
		start_writer(writers, i);
}

void writers_progress(struct writers *writers, __u64 more)
{
	__u64 until = atomic_load(&writers->requests) + more;

	while (atomic_load(&writers->requests) < until)
		sleep_us(500);
}

void writers_quiesce(struct writers *writers)
{
	pthread_rwlock_wrlock(&writers->gate);
}

void writers_resume(struct writers *writers)
{
	pthread_rwlock_unlock(&writers->gate);
}

void writers_stop(struct writers *writers, struct history *history, struct history *failed,
		  struct request_counts *counts)
{
	unsigned int i;

	atomic_store(&writers->stop, 1);
	for (i = 0; i < writers->options.threads; i++) {
		struct writer *writer = &writers->writer[i];

		pthread_join(writer->thread, NULL);
		history_merge(history, &writer->history);
		history_release(&writer->history);
		if (failed)
			history_merge(failed, &writer->failed);
		history_release(&writer->failed);
		request_counts_add(counts, &writer->counts);
		free(writer->data);
		free(writer->look);
	}
	request_target_close(&writers->target);
}
