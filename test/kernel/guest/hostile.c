// SPDX-License-Identifier: MIT
/*
 * hostile - a library that breaks every rule, while applications write.
 *
 * Attackers open sessions and spoil them: rubbish in header, rings and bitmap,
 * requests of any shape in any state, mappings of any kind, direct I/O into
 * slots of a session that goes away, bits that come back during FINISH. Writers
 * meanwhile write and verify: no write may fail, be lost, be changed or wait for
 * ever. Afterwards one honest session must still come to a good end.
 */
#include "copy.h"
#include "rubbish.h"
#include "writers.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ATTACKERS 4

static struct {
	const char *origin;
	__u64 seed, seconds;
} options = { .seed = 1, .seconds = 10 };

static __u64 origin_dev;
static atomic_int stop;

/* So that a run can say what it did, and does not end before it did it. */
static struct {
	atomic_ullong requests, mappings, sessions, started, captured, finished, scribbles[RUBBISH_KINDS];
} did;

static int did_enough(void)
{
	int i, enough = did.started && did.captured;

	for (i = 0; i < RUBBISH_KINDS; i++)
		enough = enough && did.scribbles[i];
	return enough;
}

/* --- requests of any shape */

static const unsigned long commands[] = {
	SNAPBAK_IOC_QUERY, SNAPBAK_IOC_OPEN,   SNAPBAK_IOC_SETUP, SNAPBAK_IOC_START,
	SNAPBAK_IOC_KICK,  SNAPBAK_IOC_FINISH, SNAPBAK_IOC_ABORT, SNAPBAK_IOC_STATUS,
	SNAPBAK_IOC_HINT,
};

/* Mostly nearly right, so that it gets far; sometimes nonsense throughout. */
static void draw_request(struct random *random, unsigned long command, __u64 *argument, int control)
{
	static __s32 others[SNAPBAK_MAX_ORIGINS];
	size_t i;

	memset(argument, 0, 512);
	*(__u32 *)argument = (__u32)_IOC_SIZE(command);
	if (command == SNAPBAK_IOC_OPEN)
		((struct snapbak_open *)argument)->dev = origin_dev;
	if (command == SNAPBAK_IOC_STATUS)
		((struct snapbak_status *)argument)->dev = random_below(random, 2) ? origin_dev : random_next(random);
	if (command == SNAPBAK_IOC_HINT)
		*(struct snapbak_hint *)argument = (struct snapbak_hint){
			.size = sizeof(struct snapbak_hint),
			.dev = origin_dev,
			.extent = { random_below(random, 1 << 24), random_below(random, 1 << 24) },
		};
	if (command == SNAPBAK_IOC_SETUP)
		*(struct snapbak_setup *)argument = (struct snapbak_setup){
			.size = sizeof(struct snapbak_setup),
			.block_shift = 10 + (__u32)random_below(random, 13),
			.nr_slots = (__u32)random_below(random, 9),
			.on_full = (__u32)random_below(random, 3),
			.hold_timeout_ms = random_below(random, 60),
			.flags = (__u32)random_below(random, 3),
		};
	if (command == SNAPBAK_IOC_START) {
		struct snapbak_start *start = (struct snapbak_start *)argument;

		start->timeout_ms = random_below(random, 2000);
		start->nr_others = random_below(random, 4) ? 0 : (__u32)random_below(random, 70);
		start->others = random_below(random, 2) ? (__u64)(unsigned long)others : random_next(random);
		for (i = 0; i < SNAPBAK_MAX_ORIGINS; i++)
			others[i] = random_below(random, 3) ? control : (__s32)random_below(random, 20);
	}
	if (command == SNAPBAK_IOC_ABORT)
		((struct snapbak_abort *)argument)->reason = (__u32)random_below(random, 8);
	if (!random_below(random, 3))
		argument[random_below(random, 16)] ^= random_next(random) >> random_below(random, 64);
}

static void attack_by_requests(struct random *random)
{
	int control = open(SESSION_CONTROL, O_RDWR | O_CLOEXEC);
	__u64 argument[64];
	unsigned int n = 1 + (unsigned int)random_below(random, 30);

	if (control < 0)
		die("%s: %s", SESSION_CONTROL, strerror(errno));
	while (n--) {
		unsigned long command = commands[random_below(random, sizeof(commands) / sizeof(*commands))];
		void *pointer = argument;

		draw_request(random, command, argument, control);
		if (!random_below(random, 12))
			command = random_next(random);
		if (!random_below(random, 12))
			pointer = (void *)random_next(random);
		(void)!ioctl(control, command, pointer);
		atomic_fetch_add(&did.requests, 1);
	}
	close(control);
}

/* --- mappings of any kind */

static void attack_by_mappings(struct random *random, int control, __u64 map_size)
{
	static const int protections[] = { PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE,
					   PROT_READ | PROT_WRITE | PROT_EXEC };
	static const int advices[] = { MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_REMOVE,
				       MADV_FREE,     MADV_COLD,     MADV_PAGEOUT };
	__u64 length = random_below(random, 3) ? map_size : random_below(random, map_size + 3 * SNAPBAK_PAGE) + 1;
	__u64 offset = random_below(random, 2) ? 0 : random_below(random, map_size / SNAPBAK_PAGE + 2) * SNAPBAK_PAGE;
	int flags = random_below(random, 4) ? MAP_SHARED : MAP_PRIVATE;
	char *map = mmap(NULL, length, protections[random_below(random, 5)], flags, control, (off_t)offset);
	size_t page;

	atomic_fetch_add(&did.mappings, 1);
	if (map == MAP_FAILED)
		return;
	length = (length + SNAPBAK_PAGE - 1) & ~(__u64)(SNAPBAK_PAGE - 1);
	page = (size_t)random_below(random, length / SNAPBAK_PAGE) * SNAPBAK_PAGE;
	madvise(map + page, SNAPBAK_PAGE, advices[random_below(random, 7)]);
	mprotect(map + page, SNAPBAK_PAGE, protections[random_below(random, 5)]);
	mlock(map, SNAPBAK_PAGE);
	if (!random_below(random, 3)) {
		__u64 grown = random_below(random, 2) * length + length;
		char *moved = mremap(map, length, grown, MREMAP_MAYMOVE);

		if (moved != MAP_FAILED) {
			munmap(moved, grown);
			return;
		}
	}
	/* in pieces; never what another thread may have mapped into a hole meanwhile */
	munmap(map + page, SNAPBAK_PAGE);
	if (page)
		munmap(map, page);
	if (page + SNAPBAK_PAGE < length)
		munmap(map + page + SNAPBAK_PAGE, length - page - SNAPBAK_PAGE);
}

/* --- rubbish in the memory of a session that runs */

static void scribble(struct session *session, enum rubbish_kind kind, struct random *random)
{
	rubbish_write(session, kind, random);
	atomic_fetch_add(&did.scribbles[kind], 1);
}

/* By the rules: so that there is more to attack. */
static void drain(struct session *session)
{
	__s64 ready;

	for (ready = snapbak_ring_ready(&session->events); ready > 0; ready--) {
		struct snapbak_event event = snapbak_ring_get_event(&session->events, 0);

		if (event.type == SNAPBAK_EVENT_CAPTURED) {
			atomic_fetch_add(&did.captured, 1);
			snapbak_ring_put_slot(&session->free, 0, event.slot);
			snapbak_ring_publish(&session->free, 1);
		}
		snapbak_ring_release(&session->events, 1);
	}
}

/* --- bits that come back, while FINISH is under way and after it */

struct again {
	struct session *session;
	__u64 blocks;
	atomic_int done;
};

static void *set_again(void *argument)
{
	struct again *again = argument;

	while (!atomic_load(&again->done))
		snapbak_bitmap_set_range(again->session->bitmap, 0, again->blocks);
	return NULL;
}

static void attack_by_finish(struct session *session, __u64 blocks)
{
	struct again again = { .session = session, .blocks = blocks };
	int error = -EBUSY, with_thread;
	pthread_t thread;
	unsigned int n;
	__u64 word;

	with_thread = !pthread_create(&thread, NULL, set_again, &again);
	for (n = 0; n < 500 && error == -EBUSY; n++) {
		if (n >= 10) {
			atomic_store(&again.done, 1);
			sleep_us(1000); /* captures under way may end */
		}
		for (word = 0; word < snapbak_bitmap_words(blocks); word++)
			__atomic_store_n(&session->bitmap[word], 0, __ATOMIC_RELAXED);
		error = session_finish(session);
	}
	atomic_store(&again.done, 1);
	if (with_thread)
		pthread_join(thread, NULL);
	if (!error)
		atomic_fetch_add(&did.finished, 1);
	snapbak_bitmap_set_range(session->bitmap, 0, blocks);
	sleep_us(1000);
}

/* Reads from the lower device into a slot, or the other way round, whatever becomes of the session. */
static void *slot_io(void *argument)
{
	struct session *session = argument;
	int fd = dup(session->lower.fd);
	unsigned int i;

	for (i = 0; i < 50; i++)
		(void)!pread(fd, session->slots, 4096, (off_t)session->opened.lower_offset);
	close(fd);
	return NULL;
}

static void in_a_child(struct session *session, struct random *random)
{
	pid_t child = fork();

	if (child) {
		if (child > 0 && random_below(random, 2))
			kill(child, SIGKILL);
		if (child > 0)
			waitpid(child, NULL, 0);
		return;
	}
	/* the descriptor is inherited, the mapping is not */
	(void)!ioctl(session->control, SNAPBAK_IOC_KICK, NULL);
	if (mmap(NULL, session->map_size, PROT_READ | PROT_WRITE, MAP_SHARED, session->control, 0) != MAP_FAILED)
		session_abort(session);
	_exit(0);
}

/* Whatever the attack left there, the mapping is at its place and the file is ours to close. */
static void end_session(struct session *session, __u64 blocks, struct random *random)
{
	struct snapbak_shm *shm = session->shm;

	switch (random_below(random, 5)) {
	case 0:
		session_abort(session);
		break;
	case 1:
	case 2:
		attack_by_finish(session, blocks);
		break;
	case 3:
		/* the descriptor goes first, the mapping keeps the session */
		device_close(&session->lower);
		close(session->control);
		sleep_us(random_below(random, 3000));
		munmap(shm, session->map_size);
		return;
	}
	session_close(session);
}

static void attack_by_session(struct random *random)
{
	struct session_geometry geometry = {
		.block_shift = 12 + (__u32)random_below(random, 5),
		.nr_slots = 1 + (__u32)random_below(random, 16),
		.on_full = (__u32)random_below(random, 2),
		.hold_timeout_ms = 1 + random_below(random, 100),
		.flags = random_below(random, 2) ? SNAPBAK_SETUP_HEAT : 0,
	};
	struct session session, *sessions[] = { &session };
	struct snapbak_start reply;
	enum rubbish_kind kind;
	pthread_t io;
	int with_io;
	unsigned int n;
	__u64 blocks;

	if (session_open(&session, options.origin))
		return; /* another attacker has it */
	if (session_setup(&session, &geometry)) {
		session_close(&session);
		return;
	}
	kind = (enum rubbish_kind)(atomic_fetch_add(&did.sessions, 1) % RUBBISH_KINDS);
	blocks = session.shm->nr_blocks;
	if (random_below(random, 4))
		snapbak_bitmap_set_range(session.bitmap, 0, blocks);
	else
		memset(session.bitmap, 0xff, (size_t)((char *)session.events.entries - (char *)session.bitmap));
	if (!random_below(random, 4))
		attack_by_mappings(random, session.control, session.map_size);
	if (!random_below(random, 8))
		scribble(&session, kind, random);
	if (!session_start(sessions, 1, 2000, &reply))
		atomic_fetch_add(&did.started, 1);
	with_io = !random_below(random, 3) && !pthread_create(&io, NULL, slot_io, &session);
	if (!random_below(random, 8))
		in_a_child(&session, random);
	for (n = 1 + (unsigned int)random_below(random, random_below(random, 2) ? 200 : 20); n; n--) {
		scribble(&session, kind, random);
		/* blocks are captured again and again: that is what the driver has to bear */
		if (!random_below(random, 4))
			snapbak_bitmap_set_range(session.bitmap, 0, blocks);
		if (random_below(random, 2))
			drain(&session);
		if (!random_below(random, 4))
			(void)!ioctl(session.control, SNAPBAK_IOC_KICK, NULL);
		if (!random_below(random, 16)) {
			struct pollfd poll_fd = { .fd = session.control, .events = POLLIN };

			poll(&poll_fd, 1, 1);
		}
		sleep_us(random_below(random, 500));
	}
	if (!random_below(random, 4))
		attack_by_mappings(random, session.control, session.map_size);
	if (with_io)
		pthread_join(io, NULL);
	end_session(&session, blocks, random);
}

/* The same for certain, while writes are held that nothing but FINISH, or the end of the session, lets go. */
static void finish_over_held_writes(void)
{
	static const struct session_geometry geometry = {
		.block_shift = 16, .nr_slots = 1, .on_full = SNAPBAK_ON_FULL_HOLD, .hold_timeout_ms = 60000
	};
	struct session session, *sessions[] = { &session };
	unsigned long long before = did.finished;
	struct snapbak_start reply;
	int error = session_open(&session, options.origin);

	if (!error)
		error = session_setup(&session, &geometry);
	if (error)
		die("the session to be finished over held writes: %s", strerror(-error));
	snapbak_bitmap_set_range(session.bitmap, 0, session.shm->nr_blocks);
	error = session_start(sessions, 1, 30000, &reply);
	if (error)
		die("the session to be finished over held writes: start: %s", strerror(-error));
	while (!session_counter(&session, SNAPBAK_C_HELD_NOW))
		sleep_us(1000);
	attack_by_finish(&session, session.shm->nr_blocks);
	if (did.finished == before)
		die("the session with held writes could not be finished");
	session_close(&session);
}

static void *attack(void *argument)
{
	struct random random = { .state = mix64(options.seed ^ (size_t)argument) };

	while (!atomic_load(&stop)) {
		if (random_below(&random, 3))
			attack_by_session(&random);
		else
			attack_by_requests(&random);
	}
	return NULL;
}

/* --- afterwards */

static int forget(void *context, const void *data, __u64 bytes, __u64 offset)
{
	(void)context, (void)data, (void)bytes, (void)offset;
	return 0;
}

static void honest_session(void)
{
	static const struct session_geometry geometry = { .block_shift = 16, .nr_slots = 16, .hold_timeout_ms = 30000 };
	static const struct copy_options copying = { .sweep = 1, .run_blocks = 16 };
	struct session session, *sessions[] = { &session };
	struct snapbak_start reply;
	struct copy copy, *copies[] = { &copy };
	int error = session_open(&session, options.origin);

	if (!error)
		error = session_setup(&session, &geometry);
	if (error)
		die("the session after the attack: %s", strerror(-error));
	copy_init(&copy, &session, &copying, forget, NULL);
	copy_list(&copy, 0, session.shm->nr_blocks);
	error = session_start(sessions, 1, 30000, &reply);
	if (!error)
		error = copy_run(copies, 1);
	while (!error && (error = session_finish(&session)) == -EBUSY) {
		error = 0;
		sleep_us(1000);
	}
	if (error)
		die("the session after the attack: %s %s", strerror(-error), copy.fault);
	copy_release(&copy);
	session_close(&session);
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "origin", required_argument, NULL, 'o' },
		{ "seed", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (option == 'o')
			options.origin = optarg;
		else if (option == 's')
			options.seed = parse_bytes("--seed", optarg);
		else if (option == 't')
			options.seconds = parse_bytes("--seconds", optarg);
		else
			exit(1);
	}
	if (!options.origin || optind != argc)
		die("--origin DEVICE [--seed N] [--seconds N]");
}

int main(int argc, char **argv)
{
	struct writers_options writing = {
		.threads = 3, .block_size = 65536, .kinds = (1u << REQUEST_KINDS) - 1,
	};
	struct writers *writers = allocate(sizeof(*writers));
	struct request_counts requests = { 0 };
	struct history history = { 0 };
	pthread_t attackers[ATTACKERS];
	struct contents contents;
	struct device device;
	struct stat status;
	size_t i;
	int error;

	parse(argc, argv);
	alarm((unsigned int)options.seconds * 4 + 120);
	error = device_open(&device, options.origin, O_RDWR);
	if (error || stat(options.origin, &status))
		die("%s: %s", options.origin, strerror(-error));
	origin_dev = status.st_rdev;
	contents_create(&contents, NULL, options.seed, device.bytes / SECTOR);
	error = contents_fill(&contents, device.fd);
	if (error)
		die("%s: %s", options.origin, strerror(-error));
	writing.seed = options.seed;
	writers_start(writers, &writing, options.origin, &contents);
	for (i = 0; i < ATTACKERS; i++)
		if (pthread_create(&attackers[i], NULL, attack, (void *)i))
			die("no thread");
	sleep_us(options.seconds * 1000000);
	while (!did_enough())
		sleep_us(10000);
	atomic_store(&stop, 1);
	for (i = 0; i < ATTACKERS; i++)
		pthread_join(attackers[i], NULL);
	writers_progress(writers, 20);
	for (i = 0; i < 3; i++)
		finish_over_held_writes();
	writers_progress(writers, 20);
	honest_session();
	writers_stop(writers, &history, NULL, &requests);
	if (contents_check(&contents, options.origin, device.fd, 0, 0, contents.file->sectors))
		die("the origin lost or changed a write");
	printf("{\"requests\": %llu, \"mappings\": %llu, \"sessions\": %llu, \"started\": %llu, \"captured\": %llu, ",
	       did.requests, did.mappings, did.sessions, did.started, did.captured);
	printf("\"finished\": %llu, ", did.finished);
	for (i = 0; i < RUBBISH_KINDS; i++)
		printf("\"%s\": %llu, ", rubbish_names[i], did.scribbles[i]);
	printf("\"writes\": ");
	request_counts_print(&requests);
	puts("}");
	return 0;
}
