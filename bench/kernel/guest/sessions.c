// SPDX-License-Identifier: MIT
/*
 * sessions - sessions on several origins, one step of their lives at a time.
 *
 *   sessions [--slots N] ORIGIN...
 *
 * Reads steps from stdin, a line each, and answers each with a line of JSON:
 *   setup   open, set up, all blocks listed
 *   start   one point in time for all; how long it took, by the driver and by the clock here
 *   end     abort and close
 * The end of stdin ends it.
 */
#include "session.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_SHIFT 16

static struct session sessions[SNAPBAK_MAX_ORIGINS];
static struct session *list[SNAPBAK_MAX_ORIGINS];
static unsigned int nr_sessions;
static __u32 slots = 1;

static void check(const char *what, int error)
{
	if (error)
		die("%s: %s", what, strerror(-error));
}

static void setup(char **origins)
{
	const struct session_geometry geometry = {
		.block_shift = BLOCK_SHIFT,
		.nr_slots = slots,
		.hold_timeout_ms = 30000,
	};
	__u64 mapped = 0, blocks = 0;

	for (nr_sessions = 0; origins[nr_sessions]; nr_sessions++) {
		struct session *session = &sessions[nr_sessions];

		check(origins[nr_sessions], session_open(session, origins[nr_sessions]));
		check("SETUP", session_setup(session, &geometry));
		snapbak_bitmap_set_range(session->bitmap, 0, session->shm->nr_blocks);
		list[nr_sessions] = session;
		mapped += session->map_size;
		blocks += session->shm->nr_blocks;
	}
	printf("{\"mappedBytes\":%llu,\"slotBytes\":%llu,\"blocks\":%llu}\n", mapped,
	       (__u64)nr_sessions * slots << BLOCK_SHIFT, blocks);
}

static void start(void)
{
	struct snapbak_start reply;
	__u64 began = now_ns();

	check("START", session_start(list, nr_sessions, 30000, &reply));
	printf("{\"armNs\":%llu,\"freezeNs\":%llu,\"ioctlNs\":%llu}\n", reply.arm_ns, reply.freeze_ns,
	       now_ns() - began);
}

static void end(void)
{
	unsigned int i;

	for (i = 0; i < nr_sessions; i++) {
		check("ABORT", session_abort(&sessions[i]));
		session_close(&sessions[i]);
	}
	printf("{\"ended\":%u}\n", nr_sessions);
}

int main(int argc, char **argv)
{
	static const struct option names[] = { { "slots", required_argument, NULL, 's' }, { 0 } };
	char step[16];
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (option != 's')
			die("sessions [--slots N] ORIGIN...");
		slots = (__u32)parse_bytes("--slots", optarg);
	}
	if (optind == argc || argc - optind > SNAPBAK_MAX_ORIGINS)
		die("1 to %d origins", SNAPBAK_MAX_ORIGINS);
	while (fgets(step, sizeof(step), stdin)) {
		step[strcspn(step, "\n")] = '\0';
		if (!strcmp(step, "setup"))
			setup(argv + optind);
		else if (!strcmp(step, "start"))
			start();
		else if (!strcmp(step, "end"))
			end();
		else
			die("no step is called \"%s\"", step);
		fflush(stdout);
	}
	return 0;
}
