// SPDX-License-Identifier: MIT
/*
 * counter-pair - several origins, one instant.
 *
 * Writers count on two origins, always A first, each write acknowledged before
 * the next. So at any instant A is at B or at B + 1, and so must be the images of
 * one START over both. A third origin comes between them in START; with a slow
 * lower device and writes under way it takes its time to stop, and whoever
 * arms one origin after the other lets the pairs come apart meanwhile.
 *
 * With --separately each origin has a START of its own: then pairs must come
 * apart, or this could not tell one instant from two.
 *
 * Prints {"rounds": N, "apart": N}; exit status 1 if pairs of one START are apart.
 */
#include "copy.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNTERS 4 /* each has a block and a writer of its own */
#define BLOCK_SHIFT 16
#define SEED 4711

#define SIDES 3 /* A, the one between, B */
#define BETWEEN 1

struct side {
	const char *device;
	int fd; /* the writers' */
	__s64 image[COUNTERS]; /* what the backup says */
};

static struct side sides[SIDES];
static atomic_int stop;
static atomic_ullong counted; /* pairs that were written */

static __u64 counter_sector(unsigned int counter)
{
	return ((__u64)counter << BLOCK_SHIFT) / SECTOR;
}

static void *count(void *argument)
{
	unsigned int counter = (unsigned int)(size_t)argument;
	char *data = allocate_aligned(SECTOR);
	__u32 n;

	for (n = 1; !atomic_load(&stop); n++) {
		unsigned int i;

		stamp_fill(data, SEED, counter_sector(counter), 1, n);
		for (i = 0; i < SIDES; i += 2) {
			int error = write_fully(sides[i].fd, data, SECTOR, counter_sector(counter) * SECTOR);

			if (error)
				die("%s: %s", sides[i].device, strerror(-error));
		}
		atomic_fetch_add(&counted, 1);
	}
	free(data);
	return NULL;
}

/* Keeps a write under way on the origin between. */
static void *load(void *argument)
{
	char *data = allocate_aligned(SECTOR);

	(void)argument;
	while (!atomic_load(&stop)) {
		int error = write_fully(sides[BETWEEN].fd, data, SECTOR, 0);

		if (error)
			die("%s: %s", sides[BETWEEN].device, strerror(-error));
	}
	free(data);
	return NULL;
}

static int note_counter(void *context, const void *data, __u64 bytes, __u64 offset)
{
	struct side *side = context;
	unsigned int counter = (unsigned int)(offset >> BLOCK_SHIFT);

	(void)bytes;
	side->image[counter] = stamp_read(data, SEED, counter_sector(counter));
	return 0;
}

static void start(struct session *const sessions[], int separately)
{
	unsigned int together = separately ? 1 : SIDES, i;

	for (i = 0; i < SIDES; i += together) {
		struct snapbak_start reply;
		int error = session_start(sessions + i, together, 30000, &reply);

		if (error)
			die("start: %s", strerror(-error));
	}
}

/* Return: how many counters are apart. */
static unsigned int run_round(__u64 number, int separately)
{
	static const struct session_geometry geometry = {
		.block_shift = BLOCK_SHIFT, .nr_slots = 8, .on_full = SNAPBAK_ON_FULL_HOLD, .hold_timeout_ms = 60000
	};
	struct copy_options options = { .sweep = 1, .run_blocks = 1, .seed = number };
	struct session session[SIDES], *sessions[SIDES];
	struct copy copy[SIDES], *copies[SIDES];
	unsigned int backwards = number & 1, apart = 0, i;
	__u64 before;
	int error;

	for (i = 0; i < SIDES; i++) {
		struct side *side = &sides[backwards ? SIDES - 1 - i : i];

		error = session_open(&session[i], side->device);
		if (!error)
			error = session_setup(&session[i], &geometry);
		if (error)
			die("%s: %s", side->device, strerror(-error));
		copy_init(&copy[i], &session[i], &options, note_counter, side);
		copy_list(&copy[i], 0, COUNTERS);
		sessions[i] = &session[i];
		copies[i] = &copy[i];
	}
	before = atomic_load(&counted);
	while (atomic_load(&counted) < before + 1 + number % 3)
		sleep_us(100);
	start(sessions, separately);
	error = copy_run(copies, SIDES);
	if (error)
		die("copy: %s %s%s%s", strerror(-error), copy[0].fault, copy[1].fault, copy[2].fault);
	for (i = 0; i < SIDES; i++) {
		while ((error = session_finish(&session[i])) == -EBUSY)
			sleep_us(200);
		if (error)
			die("finish: %s", strerror(-error));
		copy_release(&copy[i]);
		session_close(&session[i]);
	}
	for (i = 0; i < COUNTERS; i++) {
		__s64 a = sides[0].image[i], b = sides[SIDES - 1].image[i];

		if (a < 0 || b < 0)
			die("round %llu: counter %u is no stamp", number, i);
		if (a == b || a == b + 1)
			continue;
		if (!separately)
			fprintf(stderr, "round %llu: counter %u: A is at %lld, B at %lld\n", number, i, a, b);
		apart++;
	}
	return apart;
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "origin", required_argument, NULL, 'o' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "separately", no_argument, NULL, 's' },
		{ "timeout", required_argument, NULL, 'T' },
		{ 0 },
	};
	pthread_t threads[COUNTERS + 1];
	__u64 rounds = 100, number;
	unsigned int nr = 0, apart = 0, timeout = 300, i;
	int separately = 0, option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (option == 'o' && nr < SIDES)
			sides[nr++].device = optarg;
		else if (option == 'r')
			rounds = parse_bytes("--rounds", optarg);
		else if (option == 'T')
			timeout = (unsigned int)parse_bytes("--timeout", optarg);
		else if (option == 's')
			separately = 1;
		else
			exit(1);
	}
	if (nr != SIDES || optind != argc)
		die("--origin A --origin BETWEEN --origin B [--rounds N] [--separately] [--timeout SECONDS]");
	alarm(timeout);
	for (i = 0; i < SIDES; i++) {
		sides[i].fd = open(sides[i].device, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (sides[i].fd < 0)
			die("%s: %s", sides[i].device, strerror(errno));
	}
	for (i = 0; i < COUNTERS; i++)
		if (pthread_create(&threads[i], NULL, count, (void *)(size_t)i))
			die("no thread");
	if (pthread_create(&threads[COUNTERS], NULL, load, NULL))
		die("no thread");
	/* every counter has been written: zeroes are no count any more */
	while (atomic_load(&counted) < 4 * COUNTERS)
		sleep_us(100);
	for (number = 0; number < rounds; number++)
		apart += run_round(number, separately);
	atomic_store(&stop, 1);
	for (i = 0; i <= COUNTERS; i++)
		pthread_join(threads[i], NULL);
	printf("{\"rounds\": %llu, \"apart\": %u}\n", rounds, apart);
	return apart && !separately;
}
