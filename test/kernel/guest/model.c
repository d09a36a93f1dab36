// SPDX-License-Identifier: MIT
/*
 * model - the model test against a real device: random writers of every kind of
 * request, sessions of every geometry, and after each of them:
 *
 *   - the image is what the device held at one instant, the one that the driver
 *     claims, between the call and the return of START (history.h);
 *   - the origin and the lower device hold every acknowledged write;
 *   - the driver's counters agree with what came through the rings.
 *
 * The device's content is destroyed.
 */
#include "copy.h"
#include "writers.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FINISH_TRIES 1000

enum ending { END_FINISH, END_ABORT, END_CLOSE, ENDINGS };

static struct {
	const char *origin;
	__u64 seed;
	unsigned int rounds;
	unsigned int threads;
	__u32 kinds;
	unsigned int timeout;
	int quiesce; /* 1 always, 0 never, -1 drawn */
	__u64 pause_us;
} options = { .rounds = 4, .threads = 6, .kinds = (1u << REQUEST_KINDS) - 1, .timeout = 300, .quiesce = -1 };

/* One round, drawn from its seed. */
struct plan {
	__u64 seed;
	struct session_geometry geometry;
	struct copy_options copy;
	int list_all;
	int quiesce;
	enum ending ending;
};

struct round {
	struct plan plan;
	struct session session;
	struct copy copy;
	struct writers writers;
	struct contents *contents;
	__u32 *initial; /* generations when the round began */
	__s64 *image;
	struct history_instant instant;
	char lower[256];
	__u64 lower_offset;
};

static struct request_counts all_requests;
static __u64 all_captured, all_swept;

static struct plan draw_plan(__u64 seed, __u64 bytes)
{
	struct random random = { .state = seed };
	static const __u32 shifts[] = { 12, 13, 14, 15, 16, 16, 17, 20 };
	static const enum ending endings[] = { END_FINISH, END_FINISH, END_FINISH, END_FINISH,
					       END_FINISH, END_FINISH, END_ABORT,  END_CLOSE };
	struct plan plan = {
		.seed = seed,
		.geometry = { .block_shift = shifts[random_below(&random, 8)],
			      .nr_slots = 1 + (__u32)random_below(&random, random_below(&random, 3) ? 64 : 4),
			      .on_full = SNAPBAK_ON_FULL_HOLD,
			      .hold_timeout_ms = 60000 },
		.list_all = random_below(&random, 3) != 0,
		.quiesce = options.quiesce < 0 ? (int)random_below(&random, 2) : options.quiesce,
		.ending = endings[random_below(&random, 8)],
	};
	__u64 blocks = bytes >> plan.geometry.block_shift;

	plan.copy = (struct copy_options){
		.sweep = 1,
		.run_blocks = 1 + (__u32)random_below(&random, 70),
		/* about a second or two for the whole device, so that writers and sweep race */
		.sweep_delay_us = random_below(&random, 4000000) / (blocks / 4 + 1),
		.drain_delay_us = random_below(&random, 3) ? 0 : random_below(&random, 2000),
		.seed = random_next(&random),
	};
	if ((__u64)plan.copy.run_blocks << plan.geometry.block_shift > 4 << 20)
		plan.copy.run_blocks = (4u << 20) >> plan.geometry.block_shift;
	return plan;
}

/* The image as it comes in: only what each sector says of itself is kept. */
static int note_sectors(void *context, const void *data, __u64 bytes, __u64 offset)
{
	struct round *round = context;
	__u64 first = offset / SECTOR, i;

	for (i = 0; i < bytes / SECTOR; i++)
		round->image[first + i] =
			stamp_read((const char *)data + i * SECTOR, round->contents->file->seed, first + i);
	return 0;
}

static void list_blocks(struct round *round)
{
	__u64 nr = round->session.shm->nr_blocks;
	struct random random = { .state = mix64(round->plan.seed) };
	unsigned int i;

	if (round->plan.list_all) {
		copy_list(&round->copy, 0, nr);
		return;
	}
	for (i = 0; i < 12; i++) {
		__u64 first = random_below(&random, nr);
		__u64 count = 1 + random_below(&random, nr / 8 + 1);

		copy_list(&round->copy, first, count < nr - first ? count : nr - first);
	}
}

static void open_session(struct round *round)
{
	struct session *session = &round->session;
	__u64 sectors = round->contents->file->sectors, i;
	int error = session_open(session, options.origin);

	if (error)
		die("open: %s", strerror(-error));
	error = session_setup(session, &round->plan.geometry);
	if (error)
		die("set-up: %s", strerror(-error));
	copy_init(&round->copy, session, &round->plan.copy, note_sectors, round);
	list_blocks(round);
	error = device_path_of(session->opened.lower_dev, round->lower, sizeof(round->lower));
	if (error)
		die("the lower device %#llx: %s", session->opened.lower_dev, strerror(-error));
	round->lower_offset = session->opened.lower_offset;
	round->image = allocate(sectors * sizeof(*round->image));
	for (i = 0; i < sectors; i++)
		round->image[i] = HISTORY_UNCHECKED;
	round->initial = allocate(sectors * sizeof(*round->initial));
	memcpy(round->initial, round->contents->file->generation, sectors * sizeof(*round->initial));
}

static void start_session(struct round *round)
{
	struct session *sessions[] = { &round->session };
	struct snapbak_start reply;
	int error;

	if (round->plan.quiesce)
		writers_quiesce(&round->writers);
	round->instant.called = now_ns();
	error = session_start(sessions, 1, 30000, &reply);
	round->instant.returned = now_ns();
	if (error)
		die("start: %s", strerror(-error));
	round->instant.claimed = round->session.shm->start_monotonic_ns;
	if (round->plan.quiesce)
		writers_resume(&round->writers);
}

static void finish_session(struct round *round)
{
	struct copy *copies[] = { &round->copy };
	int error = copy_run(copies, 1);
	int tries;

	if (error)
		die("copy: %s %s", strerror(-error), round->copy.fault);
	error = -EBUSY;
	/* the driver may still be busy with what it has just published */
	for (tries = 0; error == -EBUSY && tries < FINISH_TRIES; tries++) {
		error = session_finish(&round->session);
		if (error == -EBUSY)
			sleep_us(1000);
	}
	if (error)
		die("finish: %s", strerror(-error));
	if (session_state(&round->session) != SNAPBAK_STATE_FINISHED)
		die("after FINISH the state is %u", session_state(&round->session));
}

/* Some steps, then an end without a backup. */
static void give_up_session(struct round *round)
{
	struct random random = { .state = round->plan.seed };
	__u64 left = random_below(&random, round->copy.left + 1);
	int error = 0;

	while (error >= 0 && round->copy.left > left)
		error = copy_step(&round->copy);
	if (error < 0)
		die("copy: %s %s", strerror(-error), round->copy.fault);
	if (round->plan.ending == END_CLOSE)
		return;
	error = session_abort(&round->session);
	if (error)
		die("abort: %s", strerror(-error));
	if (session_state(&round->session) != SNAPBAK_STATE_BROKEN)
		die("after ABORT the state is %u", session_state(&round->session));
}

static void check_counters(const struct round *round)
{
	const struct session *session = &round->session;
	const struct copy_counts *counts = &round->copy.counts;

	if (session_counter(session, SNAPBAK_C_PROTOCOL_ERRORS))
		die("the driver counts %llu protocol errors", session_counter(session, SNAPBAK_C_PROTOCOL_ERRORS));
	if (session_counter(session, SNAPBAK_C_INVALID) || counts->unreadable)
		die("blocks could not be read");
	if (round->plan.ending != END_FINISH)
		return;
	if (session_counter(session, SNAPBAK_C_CAPTURED) != counts->captured)
		die("the driver counts %llu captures, %llu came", session_counter(session, SNAPBAK_C_CAPTURED),
		    counts->captured);
	if (session_counter(session, SNAPBAK_C_HELD_NOW))
		die("%llu writes are held by a session that is finished",
		    session_counter(session, SNAPBAK_C_HELD_NOW));
}

static void report(const struct round *round, unsigned int number, const struct request_counts *requests)
{
	static const char *const endings[ENDINGS] = { "finish", "abort", "close" };
	const struct session *session = &round->session;
	const struct copy_counts *counts = &round->copy.counts;

	printf("{\"round\": %u, \"seed\": %llu, \"blockSize\": %u, \"slots\": %u, \"all\": %d, \"quiesce\": %d, "
	       "\"ending\": \"%s\", \"armNs\": %llu, \"captured\": %llu, \"swept\": %llu, \"wanted\": %llu, "
	       "\"held\": %llu, \"waited\": %llu, \"discardsDropped\": %llu, \"requests\": ",
	       number, round->plan.seed, 1u << round->plan.geometry.block_shift, round->plan.geometry.nr_slots,
	       round->plan.list_all, round->plan.quiesce, endings[round->plan.ending], session->shm->arm_ns,
	       counts->captured, counts->swept, counts->wanted, session_counter(session, SNAPBAK_C_HELD),
	       session_counter(session, SNAPBAK_C_WAITED), session_counter(session, SNAPBAK_C_DISCARDS_DROPPED));
	request_counts_print(requests);
	puts("}");
	fflush(stdout);
}

static __u64 check_device(const struct contents *contents, const char *path, __u64 offset)
{
	struct device device;
	int error = device_open(&device, path, O_RDONLY);
	__u64 wrong;

	if (error)
		die("%s: %s", path, strerror(-error));
	wrong = contents_check(contents, path, device.fd, offset, 0, contents->file->sectors);
	device_close(&device);
	return wrong;
}

static void run_round(unsigned int number, struct contents *contents)
{
	struct round *round = allocate(sizeof(*round));
	struct writers_options writing = { .threads = options.threads, .kinds = options.kinds, .pause_us = options.pause_us };
	struct history history = { 0 };
	struct request_counts requests = { 0 };
	__u64 wrong = 0;

	round->plan = draw_plan(options.seed * 1000 + number, contents->file->sectors * SECTOR);
	round->contents = contents;
	open_session(round);
	writing.seed = round->plan.seed;
	writing.block_size = 1ULL << round->plan.geometry.block_shift;
	writing.quiesce = round->plan.quiesce;
	writers_start(&round->writers, &writing, options.origin, contents);
	writers_progress(&round->writers, 2 * options.threads);
	start_session(round);
	if (round->plan.ending == END_FINISH)
		finish_session(round);
	else
		give_up_session(round);
	check_counters(round);
	if (round->plan.ending == END_CLOSE)
		session_close(&round->session);
	/* the end of a session stops nobody */
	writers_progress(&round->writers, 2 * options.threads);
	writers_stop(&round->writers, &history, NULL, &requests);
	if (round->plan.ending != END_CLOSE)
		report(round, number, &requests);
	if (round->plan.ending == END_FINISH)
		wrong = history_check(&history, round->initial, round->image, contents->file->sectors, &round->instant);
	wrong += check_device(contents, options.origin, 0);
	wrong += check_device(contents, round->lower, round->lower_offset);
	if (wrong)
		die("round %u (seed %llu): %llu sectors are wrong", number, options.seed, wrong);
	request_counts_add(&all_requests, &requests);
	all_captured += round->copy.counts.captured;
	all_swept += round->copy.counts.swept;
	if (round->plan.ending != END_CLOSE)
		session_close(&round->session);
	copy_release(&round->copy);
	history_release(&history);
	free(round->initial);
	free(round->image);
	free(round);
}

/* A run that met nothing of what it is for has proved nothing. */
static void demand_coverage(void)
{
	enum request_kind kind;

	if (!all_captured || !all_swept)
		die("%llu blocks were captured, %llu swept: this was no test", all_captured, all_swept);
	for (kind = 0; kind < REQUEST_KINDS; kind++)
		if (options.kinds >> kind & 1 && !all_requests.done[kind] && !all_requests.unsupported[kind])
			die("no %s was sent: this was no test", request_names[kind]);
}

static __u32 parse_kinds(char *text)
{
	__u32 kinds = 0;
	char *name;

	for (name = strtok(text, ","); name; name = strtok(NULL, ","))
		kinds |= 1u << request_kind_of(name);
	return kinds;
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "origin", required_argument, NULL, 'o' },  { "seed", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },  { "threads", required_argument, NULL, 't' },
		{ "kinds", required_argument, NULL, 'k' },   { "timeout", required_argument, NULL, 'T' },
		{ "quiesce", required_argument, NULL, 'q' }, { "pause", required_argument, NULL, 'p' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'o':
			options.origin = optarg;
			break;
		case 's':
			options.seed = parse_bytes("--seed", optarg);
			break;
		case 'r':
			options.rounds = (unsigned int)parse_bytes("--rounds", optarg);
			break;
		case 't':
			options.threads = (unsigned int)parse_bytes("--threads", optarg);
			break;
		case 'k':
			options.kinds = parse_kinds(optarg);
			break;
		case 'T':
			options.timeout = (unsigned int)parse_bytes("--timeout", optarg);
			break;
		case 'q':
			options.quiesce = (int)parse_bytes("--quiesce", optarg);
			break;
		case 'p':
			options.pause_us = parse_bytes("--pause", optarg);
			break;
		default:
			exit(1);
		}
	}
	if (!options.origin || optind != argc || !options.threads || options.threads > WRITERS_MAX || !options.kinds)
		die("--origin DEVICE [--seed N] [--rounds N] [--threads 1-%d] [--kinds NAME,...] [--timeout SECONDS] [--quiesce 0|1] [--pause US]",
		    WRITERS_MAX);
}

int main(int argc, char **argv)
{
	struct contents contents;
	struct device device;
	unsigned int number;
	int error;

	parse(argc, argv);
	/* whatever hangs, the run ends with a signal */
	alarm(options.timeout);
	error = device_open(&device, options.origin, O_RDWR);
	if (error)
		die("%s: %s", options.origin, strerror(-error));
	contents_create(&contents, NULL, options.seed, device.bytes / SECTOR);
	error = contents_fill(&contents, device.fd);
	if (error)
		die("%s: filling it: %s", options.origin, strerror(-error));
	device_close(&device);
	for (number = 0; number < options.rounds; number++)
		run_round(number, &contents);
	demand_coverage();
	printf("{\"captured\": %llu, \"swept\": %llu, \"requests\": ", all_captured, all_swept);
	request_counts_print(&all_requests);
	puts("}");
	contents_close(&contents);
	return 0;
}
