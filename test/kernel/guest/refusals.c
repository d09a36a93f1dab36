// SPDX-License-Identifier: MIT
/*
 * refusals - every request in a wrong form or at a wrong time, and what it must answer.
 *
 *   refusals ORIGIN OTHER-ORIGIN
 *
 * Prints each wrong answer; exit status 1 if there is one.
 */
#include "expect.h"
#include "session.h"
#include "snapbak_hints.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct session_geometry small = { .block_shift = 16, .nr_slots = 4, .hold_timeout_ms = 1000 };

static int call(int control, unsigned long command, void *argument)
{
	return ioctl(control, command, argument) < 0 ? -errno : 0;
}

static int open_control(void)
{
	int control = open(SESSION_CONTROL, O_RDWR | O_CLOEXEC);

	if (control < 0)
		die("%s: %s", SESSION_CONTROL, strerror(errno));
	return control;
}

static __u64 dev_of(const char *path)
{
	struct stat status;

	if (stat(path, &status))
		die("%s: %s", path, strerror(errno));
	return status.st_rdev;
}

/* Every structure: a size that is not its own, a reserved field that is not zero, no structure at all. */
static void forms(__u64 dev)
{
	static const struct {
		const char *name;
		unsigned long command;
		size_t reserved;
	} requests[] = {
		{ "QUERY", SNAPBAK_IOC_QUERY, offsetof(struct snapbak_query, reserved) },
		{ "OPEN", SNAPBAK_IOC_OPEN, offsetof(struct snapbak_open, reserved) },
		{ "SETUP", SNAPBAK_IOC_SETUP, offsetof(struct snapbak_setup, reserved) },
		{ "START", SNAPBAK_IOC_START, offsetof(struct snapbak_start, reserved) },
		{ "FINISH", SNAPBAK_IOC_FINISH, offsetof(struct snapbak_finish, reserved) },
		{ "ABORT", SNAPBAK_IOC_ABORT, offsetof(struct snapbak_abort, reserved) },
		{ "STATUS", SNAPBAK_IOC_STATUS, offsetof(struct snapbak_status, reserved) },
		{ "HINT", SNAPBAK_IOC_HINT, offsetof(struct snapbak_hint, reserved) },
	};
	int control = open_control();
	char what[64];
	size_t i;

	for (i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		__u32 size = (__u32)_IOC_SIZE(requests[i].command);
		union {
			__u32 size;
			struct snapbak_open open;
			struct snapbak_start start;
			struct snapbak_status status;
			struct snapbak_hint hint;
			char bytes[512];
		} argument;
		__u32 sizes[] = { 0, size - 1, size + 1, ~0u };
		size_t k;

		for (k = 0; k < 4; k++) {
			memset(&argument, 0, sizeof(argument));
			argument.size = sizes[k];
			snprintf(what, sizeof(what), "%s of size %u", requests[i].name, sizes[k]);
			expect(what, call(control, requests[i].command, &argument), -EINVAL);
		}
		memset(&argument, 0, sizeof(argument));
		argument.size = size;
		if (requests[i].command == SNAPBAK_IOC_OPEN)
			argument.open.dev = dev;
		if (requests[i].command == SNAPBAK_IOC_STATUS)
			argument.status.dev = dev;
		if (requests[i].command == SNAPBAK_IOC_HINT)
			argument.hint = (struct snapbak_hint){ .size = size, .dev = dev, .extent = { 0, 1 } };
		if (requests[i].command == SNAPBAK_IOC_START)
			argument.start.timeout_ms = 1000;
		argument.bytes[requests[i].reserved + 3] = 1;
		snprintf(what, sizeof(what), "%s with a reserved field", requests[i].name);
		expect(what, call(control, requests[i].command, &argument), -EINVAL);
		snprintf(what, sizeof(what), "%s without a structure", requests[i].name);
		expect(what, call(control, requests[i].command, NULL), -EFAULT);
	}
	expect("an unknown command", call(control, _IO(SNAPBAK_IOC_TYPE, 0x7f), NULL), -ENOTTY);
	expect("another driver's command", call(control, 0x5401, what), -ENOTTY);
	close(control);
}

static void opening(const char *origin)
{
	struct snapbak_open open_request = { .size = sizeof(open_request), .dev = dev_of("/dev/null") };
	struct snapbak_status status;
	struct session session, second;
	int control = open_control();

	expect("OPEN of what is no origin", call(control, SNAPBAK_IOC_OPEN, &open_request), -ENODEV);
	open_request = (struct snapbak_open){ .size = sizeof(open_request), .dev = 1ULL << 40 | dev_of(origin) };
	expect("OPEN of a number beyond 32 bits", call(control, SNAPBAK_IOC_OPEN, &open_request), -ENODEV);
	open_request = (struct snapbak_open){ .size = sizeof(open_request), .dev = dev_of(origin), .flags = 1 };
	expect("OPEN with a flag", call(control, SNAPBAK_IOC_OPEN, &open_request), -EINVAL);
	expect("STATUS of what is no origin", session_status(control, dev_of("/dev/null"), &status), -ENODEV);
	close(control);

	expect("OPEN", session_open(&session, origin), 0);
	expect("a second session", session_open(&second, origin), -EBUSY);
	open_request = (struct snapbak_open){ .size = sizeof(open_request), .dev = dev_of(origin) };
	expect("a second OPEN", call(session.control, SNAPBAK_IOC_OPEN, &open_request), -EINVAL);
	expect("STATUS", session_status(session.control, dev_of(origin), &status), 0);
	expect("its state", status.state, SNAPBAK_STATE_NEW);
	session_close(&session);
	expect("OPEN after the first was closed", session_open(&second, origin), 0);
	session_close(&second);
}

static void geometry(const char *origin)
{
	static const struct {
		const char *what;
		struct session_geometry geometry;
		int want;
	} cases[] = {
		{ "blocks too small", { 11, 4, 0, 1000, 0, 0 }, -EINVAL },
		{ "blocks too large", { 21, 4, 0, 1000, 0, 0 }, -EINVAL },
		{ "no slots", { 16, 0, 0, 1000, 0, 0 }, -EINVAL },
		{ "too many slots", { 12, SNAPBAK_MAX_SLOTS + 1, 0, 1000, 0, 0 }, -EINVAL },
		{ "more memory than there is", { 20, SNAPBAK_MAX_SLOTS, 0, 1000, 0, 0 }, -ENOMEM },
		{ "an unknown policy", { 16, 4, 2, 1000, 0, 0 }, -EINVAL },
		{ "no patience", { 16, 4, 0, 0, 0, 0 }, -EINVAL },
		{ "patience of more than a day", { 16, 4, 0, 86400001, 0, 0 }, -EINVAL },
		{ "a watchdog that sleeps for more than a day", { 16, 4, 0, 1000, 86400001, 0 }, -EINVAL },
		{ "a flag that nobody knows", { 16, 4, 0, 1000, 0, SNAPBAK_SETUP_HEAT << 1 }, -EINVAL },
	};
	struct session session;
	size_t i;

	expect("OPEN", session_open(&session, origin), 0);
	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		expect(cases[i].what, session_setup(&session, &cases[i].geometry), cases[i].want);
	expect("SETUP after refused ones", session_setup(&session, &small), 0);
	expect("a second SETUP", call(session.control, SNAPBAK_IOC_SETUP,
				      &(struct snapbak_setup){ .size = sizeof(struct snapbak_setup),
							       .block_shift = 16,
							       .nr_slots = 4,
							       .hold_timeout_ms = 1000 }),
	       -EINVAL);
	session_close(&session);
}

static int try_map(const struct session *session, size_t length, int flags, off_t offset)
{
	void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, session->control, offset);

	if (map == MAP_FAILED)
		return -errno;
	munmap(map, length);
	return 0;
}

/* In a child the mapping is not there: the session must not live on in it. */
static int child_can_read(const volatile void *address)
{
	int how;
	pid_t child = fork();

	if (!child) {
		(void)*(const volatile char *)address;
		_exit(0);
	}
	if (child < 0 || waitpid(child, &how, 0) != child)
		return -ECHILD;
	return WIFEXITED(how);
}

static void mappings(const char *origin)
{
	struct session session;
	char *map;

	expect("OPEN", session_open(&session, origin), 0);
	expect("a mapping before SETUP", try_map(&session, SNAPBAK_PAGE, MAP_SHARED, 0), -EINVAL);
	expect("SETUP", session_setup(&session, &small), 0);
	expect("a private mapping", try_map(&session, session.map_size, MAP_PRIVATE, 0), -EINVAL);
	expect("a mapping of a part", try_map(&session, SNAPBAK_PAGE, MAP_SHARED, 0), -EINVAL);
	expect("a mapping of too much", try_map(&session, session.map_size + SNAPBAK_PAGE, MAP_SHARED, 0), -EINVAL);
	expect("a mapping beyond the start", try_map(&session, session.map_size - SNAPBAK_PAGE, MAP_SHARED, SNAPBAK_PAGE),
	       -EINVAL);
	expect("a second mapping", try_map(&session, session.map_size, MAP_SHARED, 0), 0);
	map = (char *)session.shm;
	expect("growing the mapping", mremap(map, session.map_size, 2 * session.map_size, MREMAP_MAYMOVE) == MAP_FAILED ?
					      -errno :
					      0,
	       -EFAULT);
	expect("the mapping in a child", child_can_read(map), 0);
	session_close(&session);
}

static int start_with(struct session *session, __u64 timeout_ms, __u32 nr_others, const __s32 *others)
{
	struct snapbak_start start = {
		.size = sizeof(start),
		.timeout_ms = timeout_ms,
		.nr_others = nr_others,
		.others = (__u64)(unsigned long)others,
	};

	return call(session->control, SNAPBAK_IOC_START, &start);
}

static void starting(const char *origin, const char *other)
{
	__s32 others[SNAPBAK_MAX_ORIGINS];
	struct session session, second, not_ready;
	size_t i;

	expect("OPEN", session_open(&session, origin), 0);
	expect("START before SETUP", start_with(&session, 1000, 0, NULL), -EINVAL);
	expect("KICK before SETUP", call(session.control, SNAPBAK_IOC_KICK, NULL), -EINVAL);
	expect("FINISH before SETUP", session_finish(&session), -EINVAL);
	expect("SETUP", session_setup(&session, &small), 0);
	snapbak_bitmap_set_range(session.bitmap, 0, 1);
	expect("FINISH before START", session_finish(&session), -EINVAL);
	expect("START without a time limit", start_with(&session, 0, 0, NULL), -EINVAL);
	expect("START with a time limit beyond all reason", start_with(&session, 600001, 0, NULL), -EINVAL);
	expect("START with others that are nowhere", start_with(&session, 1000, 1, (const __s32 *)8), -EFAULT);
	expect("START with others but without their number", start_with(&session, 1000, 0, others), -EINVAL);
	others[0] = -1;
	expect("START with no descriptor", start_with(&session, 1000, 1, others), -EBADF);
	others[0] = STDIN_FILENO;
	expect("START with a descriptor of something else", start_with(&session, 1000, 1, others), -EINVAL);
	others[0] = session.control;
	expect("START with itself", start_with(&session, 1000, 1, others), -EINVAL);
	for (i = 0; i < SNAPBAK_MAX_ORIGINS; i++)
		others[i] = session.control;
	expect("START with too many", start_with(&session, 1000, SNAPBAK_MAX_ORIGINS, others), -EINVAL);

	expect("OPEN of the other", session_open(&not_ready, other), 0);
	others[0] = not_ready.control;
	expect("START with one that is not set up", start_with(&session, 1000, 1, others), -EINVAL);
	expect("the state afterwards", session_state(&session), SNAPBAK_STATE_READY);
	session_close(&not_ready);
	expect("OPEN of the other again", session_open(&second, other), 0);
	expect("its SETUP", session_setup(&second, &small), 0);
	others[0] = second.control;
	expect("START of both after all that", start_with(&session, 1000, 1, others), 0);
	expect("the one is armed", session_state(&session), SNAPBAK_STATE_ARMED);
	expect("the other is armed", session_state(&second), SNAPBAK_STATE_ARMED);
	expect("the same instant", session.shm->start_monotonic_ns == second.shm->start_monotonic_ns, 1);
	expect("START again", start_with(&session, 1000, 0, NULL), -EINVAL);
	expect("FINISH with a pending block", session_finish(&session), -EBUSY);
	expect("FINISH of the other, that lists none", session_finish(&second), 0);
	expect("ABORT after FINISH", session_abort(&second), -EINVAL);
	session_close(&second);
	session_close(&session);
}

static void ending(const char *origin)
{
	struct snapbak_abort abort_request = { .size = sizeof(abort_request), .reason = SNAPBAK_REASON_PROTOCOL };
	struct snapbak_status status;
	struct session session, next;
	struct pollfd poll_fd;

	expect("OPEN", session_open(&session, origin), 0);
	expect("SETUP", session_setup(&session, &small), 0);
	snapbak_bitmap_set_range(session.bitmap, 0, 1);
	expect("START", start_with(&session, 1000, 0, NULL), 0);
	poll_fd = (struct pollfd){ .fd = session.control, .events = POLLIN };
	expect("nothing to read yet", poll(&poll_fd, 1, 0), 0);
	expect("ABORT for a reason that is not the library's",
	       call(session.control, SNAPBAK_IOC_ABORT, &abort_request), -EINVAL);
	expect("ABORT", session_abort(&session), 0);
	expect("readable when it is over", poll(&poll_fd, 1, 0), 1);
	expect("the reason", session.shm->reason, SNAPBAK_REASON_ABORTED);
	expect("ABORT again", session_abort(&session), 0);
	expect("FINISH after ABORT", session_finish(&session) != 0, 1);
	expect("the next session, while this one is still open", session_open(&next, origin), 0);
	session_close(&next);
	expect("STATUS after the next was closed", session_status(session.control, dev_of(origin), &status), 0);
	session_close(&session);
}

static int hint_at(int control, __u64 dev, __u64 offset, __u64 length)
{
	struct snapbak_hint hint = { .size = sizeof(hint), .dev = dev, .extent = { offset, length } };

	return call(control, SNAPBAK_IOC_HINT, &hint);
}

static int readable(const struct session *session)
{
	struct pollfd poll_fd = { .fd = session->control, .events = POLLIN };

	return poll(&poll_fd, 1, 0);
}

/* A hint of another process wakes the library that sleeps. */
static int woken_by_hint(struct session *session, __u64 dev)
{
	struct session *sessions[] = { session };
	int how, woken;
	pid_t child = fork();

	if (!child) {
		sleep_us(300000);
		_exit(hint_at(open_control(), dev, 0, 1) ? 1 : 0);
	}
	woken = session_wait(sessions, 1, 20000);
	if (child < 0 || waitpid(child, &how, 0) != child || how)
		return -ECHILD;
	return woken;
}

static void hinting(const char *origin)
{
	struct snapbak_extent out[SNAPBAK_NR_HINTS];
	__u64 dev = dev_of(origin), size;
	struct snapbak_hint with_flag = { .size = sizeof(with_flag), .dev = dev, .flags = 1, .extent = { 0, 1 } };
	int other = open_control();
	struct session session;
	__u32 mine = 0;
	int i;

	expect("HINT for what is no origin", hint_at(other, dev_of("/dev/null"), 0, 1), -ENODEV);
	expect("HINT for a number beyond 32 bits", hint_at(other, 1ULL << 40 | dev, 0, 1), -ENODEV);
	expect("HINT without a session", hint_at(other, dev, 0, 1), -ENODATA);
	expect("OPEN", session_open(&session, origin), 0);
	expect("HINT before SETUP", hint_at(other, dev, 0, 1), -ENODATA);
	expect("SETUP", session_setup(&session, &small), 0);
	snapbak_bitmap_set_range(session.bitmap, 0, 1);
	expect("HINT before START", hint_at(other, dev, 0, 1), -ENODATA);
	expect("START", start_with(&session, 1000, 0, NULL), 0);
	size = session.opened.origin_size;
	expect("HINT with a flag", call(other, SNAPBAK_IOC_HINT, &with_flag), -EINVAL);
	expect("an empty HINT", hint_at(other, dev, 0, 0), -EINVAL);
	expect("HINT at the end", hint_at(other, dev, size, 1), -EINVAL);
	expect("HINT over the end", hint_at(other, dev, size - 1, 2), -EINVAL);
	expect("HINT that wraps", hint_at(other, dev, 1, ~0ULL), -EINVAL);
	expect("nothing to read yet", readable(&session), 0);
	expect("HINT", hint_at(other, dev, 512, size - 512), 0);
	expect("readable for a hint", readable(&session), 1);
	expect("hints", (int)snapbak_hints_take(session.shm, &mine, out), 1);
	expect("its offset", (int)out[0].offset, 512);
	expect("its length", out[0].length == size - 512, 1);
	expect("not readable when it is taken", readable(&session), 0);
	for (i = 1; i <= 200; i++)
		expect("one of many", hint_at(session.control, dev, (__u64)i, 1), 0);
	expect("the newest of many", (int)snapbak_hints_take(session.shm, &mine, out), SNAPBAK_NR_HINTS - 1);
	expect("the very newest", (int)out[SNAPBAK_NR_HINTS - 2].offset, 200);
	expect("hints in all", (int)session_counter(&session, SNAPBAK_C_HINTS), 201);
	expect("the wake-up of a sleeper", woken_by_hint(&session, dev), 0);
	session.shm->hint_head.value = 12345;
	session.shm->hint_tail.value = 7;
	expect("HINT over rubbish", hint_at(other, dev, 0, 1), 0);
	expect("the driver's own position", (int)session.shm->hint_head.value, 203);
	expect("ABORT", session_abort(&session), 0);
	expect("HINT when it is over", hint_at(other, dev, 0, 1), -ENODATA);
	session_close(&session);
	close(other);
}

#define REGION (1ULL << SNAPBAK_MIN_HEAT_SHIFT)
#define REGIONS 64

/* What the driver tells at START of when regions were written, whatever the library wrote there before. */
static void take_heat(const char *origin, __u32 *ticks)
{
	struct session_geometry geometry = small;
	struct session session;
	struct snapbak_shm *shm;
	__u32 *area, now;

	geometry.flags = SNAPBAK_SETUP_HEAT;
	expect("OPEN for heat", session_open(&session, origin), 0);
	expect("SETUP with heat", session_setup(&session, &geometry), 0);
	shm = session.shm;
	area = (__u32 *)((char *)shm + shm->heat_off);
	expect("regions", shm->nr_heat == REGIONS && shm->heat_shift == SNAPBAK_MIN_HEAT_SHIFT, 1);
	expect("heat before START", (int)shm->heat_now, 0);
	memset(area, 0xff, REGIONS * sizeof(*area));
	shm->heat_off = ~0ULL;
	shm->nr_heat = ~0u;
	shm->heat_shift = ~0u;
	expect("START with heat", start_with(&session, 1000, 0, NULL), 0);
	now = snapbak_load_acquire(&shm->heat_now);
	expect("its tick", now != 0, 1);
	memcpy(ticks, area, REGIONS * sizeof(*ticks));
	/* none may be later than that, nor much earlier than the machine is up */
	expect("a tick of the last second", (int)(now - ticks[5]) <= 8 && (int)(now - ticks[5]) >= 0, 1);
	session_close(&session);
}

/* Writes and zeroes are noted, over borders of regions too; discards are not. */
static void heating(const char *origin)
{
	static char data[8192] __attribute__((aligned(4096)));
	__u64 zeroes[] = { 9 * REGION, 4096 }, discard[] = { 11 * REGION, REGION };
	__u32 before[REGIONS], after[REGIONS];
	struct device device;
	int i;

	expect("open", device_open(&device, origin, O_RDWR), 0);
	expect("a write", write_fully(device.fd, data, 4096, 5 * REGION), 0);
	take_heat(origin, before);
	/* until the tick is another one */
	do {
		expect("a write", write_fully(device.fd, data, 4096, 5 * REGION), 0);
		take_heat(origin, after);
	} while (after[5] == before[5]);
	expect("a write over a border", write_fully(device.fd, data, 8192, 8 * REGION - 4096), 0);
	expect("BLKZEROOUT", call(device.fd, BLKZEROOUT, zeroes), 0);
	expect("BLKDISCARD", call(device.fd, BLKDISCARD, discard), 0);
	expect("a write again", write_fully(device.fd, data, 4096, 5 * REGION), 0);
	take_heat(origin, after);
	for (i = 0; i < REGIONS; i++) {
		int written = i == 5 || i == 7 || i == 8 || i == 9;

		if ((after[i] != before[i]) != written)
			printf("region %d: %u, then %u\n", i, before[i], after[i]);
		expect("a tick", (after[i] != before[i]) == written, 1);
	}
	device_close(&device);
}

/* Nobody but the administrator. */
static void permissions(void)
{
	int how;
	pid_t child = fork();

	if (!child) {
		if (setgid(65534) || setuid(65534))
			_exit(2);
		_exit(open(SESSION_CONTROL, O_RDWR) < 0 && errno == EACCES ? 0 : 1);
	}
	expect("open by another user", child > 0 && waitpid(child, &how, 0) == child ? how : -1, 0);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		die("ORIGIN OTHER-ORIGIN");
	forms(dev_of(argv[1]));
	opening(argv[1]);
	geometry(argv[1]);
	mappings(argv[1]);
	starting(argv[1], argv[2]);
	ending(argv[1]);
	hinting(argv[1]);
	heating(argv[1]);
	permissions();
	return expect_end();
}
