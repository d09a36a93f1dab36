// SPDX-License-Identifier: MIT
/*
 * consumer - a library that does nothing but its duty, so that the driver is
 * what is measured: every captured block is taken, and its slot given back, at once.
 *
 *   consumer [--slots N] [--store DEVICE] [--sweep FILE | --claim] ORIGIN
 *
 * --store writes each captured block to DEVICE first. --sweep copies the whole
 * origin to FILE in runs of 4 MiB, syncs it and finishes; --claim reads and claims
 * all of it, keeps nothing, and holds the session on with nothing pending.
 * Prints a line of JSON when armed, one when all is copied, and one at the end,
 * which SIGTERM brings where nothing else does.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_SHIFT 16
#define RUN_BYTES ((__u64)SNAPBAK_WORD_BITS << BLOCK_SHIFT) /* 4 MiB, one word of the bitmap */
/* A SIGTERM that comes just before the wait is seen so much later. */
#define WAIT_MS 50

static struct {
	__u32 slots;
	const char *store;
	const char *sweep;
	int claim;
	const char *origin;
} options = { .slots = 1024 };

static volatile sig_atomic_t ended;
static struct session session;
static struct device store = { .fd = -1 };
static int image = -1; /* of --sweep */
static __u64 stored; /* blocks, into the store */

static void check(const char *what, int error)
{
	if (error)
		die("%s: %s", what, strerror(-error));
}

static void on_sigterm(int signal)
{
	(void)signal;
	ended = 1;
}

static void say_armed(const struct snapbak_start *start)
{
	printf("{\"event\":\"armed\",\"armNs\":%llu,\"freezeNs\":%llu}\n", start->arm_ns, start->freeze_ns);
	fflush(stdout);
}

static void say_copied(__u64 began)
{
	printf("{\"event\":\"copied\",\"seconds\":%.6f}\n", (double)(now_ns() - began) / 1e9);
	fflush(stdout);
}

static void say_ended(void)
{
	printf("{\"event\":\"ended\",\"state\":%u,\"captured\":%llu,\"captureNs\":%llu,\"held\":%llu,\"delayed\":%llu,"
	       "\"waited\":%llu}\n",
	       session_state(&session), session_counter(&session, SNAPBAK_C_CAPTURED),
	       session_counter(&session, SNAPBAK_C_CAPTURE_NS), session_counter(&session, SNAPBAK_C_HELD),
	       session_counter(&session, SNAPBAK_C_DELAYED), session_counter(&session, SNAPBAK_C_WAITED));
}

static void keep(const struct snapbak_event *event)
{
	const void *data = session_slot(&session, event->slot);
	__u64 bytes = session_block_bytes(&session, event->block);

	if (store.fd >= 0)
		check("store", write_fully(store.fd, data, bytes,
					   (stored++ << BLOCK_SHIFT) % (store.bytes & ~((1ULL << BLOCK_SHIFT) - 1))));
	if (image >= 0)
		check(options.sweep, write_fully(image, data, bytes, event->block << BLOCK_SHIFT));
}

static void take_events(void)
{
	__s64 left;

	for (left = snapbak_ring_ready(&session.events); left > 0; left--) {
		struct snapbak_event event = snapbak_ring_get_event(&session.events, 0);

		if (event.type == SNAPBAK_EVENT_INVALID || event.slot >= options.slots)
			die("block %llu: error %d", event.block, event.error);
		/* what is wanted gets a slot when one comes back */
		if (event.type == SNAPBAK_EVENT_CAPTURED) {
			keep(&event);
			snapbak_ring_put_slot(&session.free, 0, event.slot);
			snapbak_ring_publish(&session.free, 1);
		}
		snapbak_ring_release(&session.events, 1);
		check("KICK", session_kick_waiting(&session));
	}
	if (left < 0)
		die("impossible head of the event ring");
	if (session_state(&session) == SNAPBAK_STATE_BROKEN)
		die("the session broke: reason %u, error %d", session.shm->reason, session.shm->error);
}

/* Claims a run that has been read, and writes it. */
static void claim(const char *run, __u64 offset)
{
	if (snapbak_bitmap_claim(session.bitmap, offset >> BLOCK_SHIFT, SNAPBAK_WORD_BITS) != ~0ULL)
		die("a block was written to during a sweep that is to have no writers");
	if (image >= 0)
		check(options.sweep, write_fully(image, run, RUN_BYTES, offset));
}

/* Everything, in order; the origin is of whole runs. */
static void sweep(void)
{
	char *run = allocate_aligned(RUN_BYTES);
	__u64 began = now_ns();
	__u64 offset;

	for (offset = 0; offset < session.shm->origin_size; offset += RUN_BYTES) {
		check("lower device",
		      read_fully(session.lower.fd, run, RUN_BYTES, session.opened.lower_offset + offset));
		claim(run, offset);
		take_events();
	}
	if (image >= 0) {
		if (fsync(image))
			die("%s: %s", options.sweep, strerror(errno));
		check("FINISH", session_finish(&session));
	}
	say_copied(began);
}

static void start(void)
{
	const struct session_geometry geometry = {
		.block_shift = BLOCK_SHIFT,
		.nr_slots = options.slots,
		.hold_timeout_ms = 30000,
	};
	struct session *const list[] = { &session };
	struct snapbak_start reply;

	check(options.origin, session_open(&session, options.origin));
	check("SETUP", session_setup(&session, &geometry));
	if (session.shm->origin_size % RUN_BYTES)
		die("%s: its size is no multiple of 4 MiB", options.origin);
	snapbak_bitmap_set_range(session.bitmap, 0, session.shm->nr_blocks);
	check("START", session_start(list, 1, 30000, &reply));
	say_armed(&reply);
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "slots", required_argument, NULL, 'n' }, { "store", required_argument, NULL, 's' },
		{ "sweep", required_argument, NULL, 'w' }, { "claim", no_argument, NULL, 'c' }, { 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'n':
			options.slots = (__u32)parse_bytes("--slots", optarg);
			break;
		case 's':
			options.store = optarg;
			break;
		case 'w':
			options.sweep = optarg;
			break;
		case 'c':
			options.claim = 1;
			break;
		default:
			die("consumer [--slots N] [--store DEVICE] [--sweep FILE | --claim] ORIGIN");
		}
	}
	if (optind + 1 != argc || (options.sweep && options.claim))
		die("one origin, and either --sweep or --claim");
	options.origin = argv[optind];
}

int main(int argc, char **argv)
{
	const struct sigaction action = { .sa_handler = on_sigterm };
	struct session *const list[] = { &session };

	parse(argc, argv);
	sigaction(SIGTERM, &action, NULL);
	if (options.store)
		check(options.store, device_open(&store, options.store, O_RDWR));
	if (options.sweep) {
		image = open(options.sweep, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (image < 0)
			die("%s: %s", options.sweep, strerror(errno));
	}
	start();
	if (options.sweep || options.claim)
		sweep();
	while (!ended && session_state(&session) == SNAPBAK_STATE_ARMED) {
		int error = session_wait(list, 1, WAIT_MS);

		if (error && error != -ETIME && error != -EINTR)
			check("poll", error);
		take_events();
	}
	say_ended();
	session_close(&session);
	return 0;
}
