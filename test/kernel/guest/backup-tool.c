// SPDX-License-Identifier: MIT
/*
 * backup-tool - a backup of devices into image files, at its smallest.
 *
 *   backup-tool [OPTION]... --origin DEVICE --image FILE [--origin ... --image ...]
 *
 * Prints one JSON line when the point in time is fixed and one at the end. Exit
 * status: 0 complete, 4 complete with invalid blocks, 3 the session broke or
 * could not go on, 1 it never started.
 */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FINISH_TRIES 1000

static const char help[] =
	"--origin DEVICE        what to back up; several share one point in time\n"
	"--image FILE           where to, one for each origin; a file or a block device\n"
	"--block-size BYTES     default 64K\n"
	"--slots N              default 64\n"
	"--list OFFSET:LENGTH   only this, in whole blocks; may be given again; default all\n"
	"--no-sweep             copy only what is captured or wanted, until SIGUSR1 comes\n"
	"--run-blocks N         longest run of the sweep, default 16\n"
	"--sweep-delay US       after each run\n"
	"--drain-delay US       a slot is kept so much longer\n"
	"--seed N               of the sweep's order\n"
	"--on-full break|hold   default break\n"
	"--hold-timeout MS      default 30000\n"
	"--stall-timeout MS     default: no watchdog\n"
	"--throttle BYTES       from half of the slots on, as if so many bytes a second were drained\n"
	"--start-timeout MS     default 30000\n"
	"--stop-after N         SIGSTOP to itself after N blocks (0: as soon as it has started)\n"
	"--exit-after N         exit without a word after N blocks\n";

struct origin {
	const char *device;
	const char *image;
	int image_fd;
	struct session session;
	struct copy copy;
};

static struct {
	struct session_geometry geometry;
	struct copy_options copy;
	__u64 start_timeout_ms;
	__u64 throttle_rate;
	long long stop_after; /* blocks; -1: never */
	long long exit_after;
	struct {
		__u64 offset, length;
	} list[64];
	unsigned int nr_list;
} options = {
	.geometry = { .block_shift = 16, .nr_slots = 64, .hold_timeout_ms = 30000 },
	.copy = { .sweep = 1, .run_blocks = 16 },
	.start_timeout_ms = 30000,
	.stop_after = -1,
	.exit_after = -1,
};

static struct origin origins[SNAPBAK_MAX_ORIGINS];
static unsigned int nr_origins;
static long long stored; /* blocks, of all origins */

static void sweep_now(int signal)
{
	unsigned int i;

	(void)signal;
	for (i = 0; i < nr_origins; i++)
		origins[i].copy.options.sweep = 1;
}

static void stop_or_exit(void)
{
	if (stored == options.exit_after)
		_exit(0);
	if (stored == options.stop_after)
		raise(SIGSTOP);
}

static int store(void *context, const void *data, __u64 bytes, __u64 offset)
{
	const struct origin *origin = context;
	int error = write_fully(origin->image_fd, data, bytes, offset);

	stored++;
	stop_or_exit();
	return error;
}

static __u32 shift_of(__u64 block_size)
{
	__u32 shift = 0;

	while (1ULL << shift < block_size)
		shift++;
	if (1ULL << shift != block_size)
		die("--block-size %llu is not a power of two", block_size);
	return shift;
}

static void add_list(const char *text)
{
	char *copy = strdup(text);
	char *colon = copy ? strchr(copy, ':') : NULL;

	if (!colon || options.nr_list == sizeof(options.list) / sizeof(*options.list))
		die("--list %s: OFFSET:LENGTH, up to 64 of them", text);
	*colon = '\0';
	options.list[options.nr_list].offset = parse_bytes("--list", copy);
	options.list[options.nr_list++].length = parse_bytes("--list", colon + 1);
	free(copy);
}

static __u32 on_full_of(const char *text)
{
	if (!strcmp(text, "hold"))
		return SNAPBAK_ON_FULL_HOLD;
	if (strcmp(text, "break"))
		die("--on-full %s: break or hold", text);
	return SNAPBAK_ON_FULL_BREAK;
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "origin", required_argument, NULL, 'o' },	  { "image", required_argument, NULL, 'i' },
		{ "block-size", required_argument, NULL, 'b' },	  { "slots", required_argument, NULL, 's' },
		{ "list", required_argument, NULL, 'l' },	  { "no-sweep", no_argument, NULL, 'n' },
		{ "run-blocks", required_argument, NULL, 'r' },	  { "sweep-delay", required_argument, NULL, 'w' },
		{ "drain-delay", required_argument, NULL, 'd' },  { "seed", required_argument, NULL, 'S' },
		{ "on-full", required_argument, NULL, 'f' },	  { "hold-timeout", required_argument, NULL, 't' },
		{ "start-timeout", required_argument, NULL, 'T' }, { "stop-after", required_argument, NULL, 'z' },
		{ "exit-after", required_argument, NULL, 'x' },	  { "stall-timeout", required_argument, NULL, 'k' },
		{ "throttle", required_argument, NULL, 'm' },	  { "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	unsigned int nr_images = 0;
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'o':
			if (nr_origins == SNAPBAK_MAX_ORIGINS)
				die("more than %d origins", SNAPBAK_MAX_ORIGINS);
			origins[nr_origins++].device = optarg;
			break;
		case 'i':
			if (nr_images == SNAPBAK_MAX_ORIGINS)
				die("more than %d images", SNAPBAK_MAX_ORIGINS);
			origins[nr_images++].image = optarg;
			break;
		case 'b':
			options.geometry.block_shift = shift_of(parse_bytes("--block-size", optarg));
			break;
		case 's':
			options.geometry.nr_slots = (__u32)parse_bytes("--slots", optarg);
			break;
		case 'l':
			add_list(optarg);
			break;
		case 'n':
			options.copy.sweep = 0;
			break;
		case 'r':
			options.copy.run_blocks = (__u32)parse_bytes("--run-blocks", optarg);
			break;
		case 'w':
			options.copy.sweep_delay_us = parse_bytes("--sweep-delay", optarg);
			break;
		case 'd':
			options.copy.drain_delay_us = parse_bytes("--drain-delay", optarg);
			break;
		case 'S':
			options.copy.seed = parse_bytes("--seed", optarg);
			break;
		case 'f':
			options.geometry.on_full = on_full_of(optarg);
			break;
		case 't':
			options.geometry.hold_timeout_ms = parse_bytes("--hold-timeout", optarg);
			break;
		case 'k':
			options.geometry.stall_timeout_ms = parse_bytes("--stall-timeout", optarg);
			break;
		case 'm':
			options.throttle_rate = parse_bytes("--throttle", optarg);
			break;
		case 'T':
			options.start_timeout_ms = parse_bytes("--start-timeout", optarg);
			break;
		case 'z':
			options.stop_after = (long long)parse_bytes("--stop-after", optarg);
			break;
		case 'x':
			options.exit_after = (long long)parse_bytes("--exit-after", optarg);
			break;
		default:
			fputs(help, option == 'h' ? stdout : stderr);
			exit(option == 'h' ? 0 : 1);
		}
	}
	if (!nr_origins || nr_origins != nr_images || optind != argc || !options.copy.run_blocks)
		die("as many --origin as --image, at least one, and nothing else; --help tells the options");
}

static void open_image(struct origin *origin, __u64 bytes)
{
	struct stat status;
	int exists = !stat(origin->image, &status);
	int device = exists && S_ISBLK(status.st_mode);

	origin->image_fd = open(origin->image, O_RDWR | O_CLOEXEC | (device ? O_DIRECT : O_CREAT), 0600);
	if (origin->image_fd < 0)
		die("%s: %s", origin->image, strerror(errno));
	if (!device && ftruncate(origin->image_fd, (off_t)bytes))
		die("%s: %s", origin->image, strerror(errno));
}

static void prepare(struct origin *origin)
{
	int error = session_open(&origin->session, origin->device);
	struct session *session = &origin->session;
	unsigned int i;

	if (error)
		die("%s: open: %s", origin->device, strerror(-error));
	error = session_setup(session, &options.geometry);
	if (error)
		die("%s: set-up: %s", origin->device, strerror(-error));
	if (options.throttle_rate) {
		session->shm->throttle_rate = options.throttle_rate;
		session->shm->throttle_max_us = 1000000;
		session->shm->throttle_full = options.geometry.nr_slots;
		session->shm->throttle_begin = options.geometry.nr_slots / 2;
	}
	open_image(origin, session->shm->origin_size);
	copy_init(&origin->copy, session, &options.copy, store, origin);
	if (!options.nr_list)
		copy_list(&origin->copy, 0, session->shm->nr_blocks);
	for (i = 0; i < options.nr_list; i++) {
		__u64 first = options.list[i].offset >> session->shm->block_shift;
		__u64 end = options.list[i].offset + options.list[i].length;

		if (!options.list[i].length || end > session->shm->origin_size)
			die("%s: --list goes beyond its %llu bytes", origin->device, session->shm->origin_size);
		copy_list(&origin->copy, first, ((end - 1) >> session->shm->block_shift) + 1 - first);
	}
}

static void start(void)
{
	struct session *sessions[SNAPBAK_MAX_ORIGINS];
	struct snapbak_start reply;
	unsigned int i;
	int error;

	for (i = 0; i < nr_origins; i++)
		sessions[i] = &origins[i].session;
	error = session_start(sessions, nr_origins, options.start_timeout_ms, &reply);
	if (error)
		die("start: %s (failed device %#llx)", strerror(-error), reply.failed_dev);
	printf("{\"started\": true, \"armNs\": %llu, \"freezeNs\": %llu}\n", reply.arm_ns, reply.freeze_ns);
	fflush(stdout);
	stop_or_exit();
}

static int finish(struct session *session)
{
	int tries, error = -EBUSY;

	/* the driver may still be busy with what it has just published */
	for (tries = 0; error == -EBUSY && tries < FINISH_TRIES; tries++) {
		error = session_finish(session);
		if (error == -EBUSY)
			sleep_us(1000);
	}
	return error;
}

static void report(int error)
{
	unsigned int i;

	printf("{\"result\": \"%s\", \"error\": \"%s\", \"origins\": [", error ? "broken" : "complete",
	       error ? strerrorname_np(-error) : "");
	for (i = 0; i < nr_origins; i++) {
		const struct session *session = &origins[i].session;
		const struct copy_counts *counts = &origins[i].copy.counts;

		printf("%s{\"captured\": %llu, \"swept\": %llu, \"invalid\": %llu, \"unreadable\": %llu, "
		       "\"wanted\": %llu, \"reads\": %llu, \"driverCaptured\": %llu, \"delayed\": %llu, \"held\": %llu, "
		       "\"heldMaxNs\": %llu, \"waited\": %llu, \"discardsDropped\": %llu, \"eagain\": %llu, "
		       "\"captureTimes\": %llu, \"holdTimes\": %llu, \"captureMaxNs\": %llu, "
		       "\"reason\": %u, \"fault\": \"%s\"}",
		       i ? ", " : "", counts->captured, counts->swept, counts->invalid, counts->unreadable,
		       counts->wanted, counts->reads, session_counter(session, SNAPBAK_C_CAPTURED),
		       session_counter(session, SNAPBAK_C_DELAYED), session_counter(session, SNAPBAK_C_HELD),
		       session_counter(session, SNAPBAK_C_HELD_MAX_NS),
		       session_counter(session, SNAPBAK_C_WAITED),
		       session_counter(session, SNAPBAK_C_DISCARDS_DROPPED),
		       session_counter(session, SNAPBAK_C_EAGAIN), session_times(session, SNAPBAK_H_CAPTURE),
		       session_times(session, SNAPBAK_H_HOLD),
		       session_counter(session, SNAPBAK_C_CAPTURE_MAX_NS),
		       snapbak_load_relaxed(&session->shm->reason),
		       origins[i].copy.fault);
	}
	puts("]}");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct copy *copies[SNAPBAK_MAX_ORIGINS];
	__u64 invalid = 0;
	unsigned int i;
	int error;

	parse(argc, argv);
	for (i = 0; i < nr_origins; i++) {
		prepare(&origins[i]);
		copies[i] = &origins[i].copy;
	}
	signal(SIGUSR1, sweep_now);
	start();
	error = copy_run(copies, nr_origins);
	for (i = 0; i < nr_origins; i++) {
		struct session *session = &origins[i].session;

		if (!error && fsync(origins[i].image_fd))
			error = -errno;
		if (!error)
			error = finish(session);
		if (error)
			session_abort(session);
		invalid += copies[i]->counts.invalid + copies[i]->counts.unreadable;
	}
	report(error);
	for (i = 0; i < nr_origins; i++) {
		copy_release(&origins[i].copy);
		session_close(&origins[i].session);
		close(origins[i].image_fd);
	}
	return error ? 3 : invalid ? 4 : 0;
}
