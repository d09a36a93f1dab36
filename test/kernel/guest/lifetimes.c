// SPDX-License-Identifier: MIT
/*
 * lifetimes - a session lives as long as its descriptor and its mapping, wherever
 * they have got to, and not a moment longer.
 *
 *   lifetimes ORIGIN [writer]
 *
 * With "writer": only the owner that is killed while a write of its own is held.
 *
 * Each case arms a session of one slot, so that a second first touch is held;
 * when the last reference is gone that write must go on.
 */
#include "expect.h"
#include "session.h"
#include "stamp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON_MS 5000 /* long before any hold ends: their patience is a minute */
#define BLOCK_SHIFT 16

static const char *origin;
static int watcher; /* a control descriptor without a session, for STATUS */
static __u64 origin_dev;

static int state_now(void)
{
	struct snapbak_status status;
	int error = session_status(watcher, origin_dev, &status);

	return error ? error : (int)status.state;
}

/* The origin has no session any more, or only one that has ended. */
static int ends_soon(void)
{
	__u64 deadline = now_ns() + SOON_MS * 1000000ULL;

	while (now_ns() < deadline) {
		int state = state_now();

		if (state == SNAPBAK_STATE_NEW || state == SNAPBAK_STATE_BROKEN)
			return 1;
		sleep_us(1000);
	}
	return 0;
}

static void arm(struct session *session)
{
	static const struct session_geometry geometry = {
		.block_shift = BLOCK_SHIFT, .nr_slots = 1, .on_full = SNAPBAK_ON_FULL_HOLD, .hold_timeout_ms = 60000
	};
	struct session *sessions[] = { session };
	struct snapbak_start reply;
	int error = session_open(session, origin);

	if (!error)
		error = session_setup(session, &geometry);
	if (error)
		die("%s: %s", origin, strerror(-error));
	snapbak_bitmap_set_range(session->bitmap, 0, 8);
	error = session_start(sessions, 1, 10000, &reply);
	if (error)
		die("start: %s", strerror(-error));
}

/* --- two writes: the first takes the slot, the second is held */

static void *write_two(void *argument)
{
	char *data = allocate_aligned(SECTOR);
	int fd = open(origin, O_WRONLY | O_DIRECT | O_CLOEXEC);
	long error = fd < 0 ? -errno : 0;
	__u64 block;

	(void)argument;
	for (block = 0; block < 2 && !error; block++)
		error = write_fully(fd, data, SECTOR, block << BLOCK_SHIFT);
	close(fd);
	free(data);
	return (void *)error;
}

static pthread_t hold_a_write(struct session *session)
{
	pthread_t writer;

	if (pthread_create(&writer, NULL, write_two, NULL))
		die("no thread");
	while (!session_counter(session, SNAPBAK_C_HELD_NOW))
		sleep_us(1000);
	return writer;
}

static void expect_release(const char *what, pthread_t writer)
{
	struct timespec until;
	void *error = (void *)-1L;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SOON_MS / 1000;
	expect(what, pthread_timedjoin_np(writer, &error, &until), 0);
	expect(what, (long)error, 0);
}

/* A child that only waits to be killed. */
static pid_t idle_child(void)
{
	pid_t child = fork();

	if (!child) {
		pause();
		_exit(0);
	}
	return child;
}

static void end_child(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* --- the cases */

static void a_closed_descriptor(void)
{
	struct session session;
	pthread_t writer;

	arm(&session);
	writer = hold_a_write(&session);
	session_close(&session);
	expect("closed and unmapped: the session ends", ends_soon(), 1);
	expect_release("closed and unmapped: the held write goes on", writer);
}

static void a_mapping_alone(void)
{
	struct session session;
	pthread_t writer;

	arm(&session);
	writer = hold_a_write(&session);
	close(session.control);
	sleep_us(50000);
	expect("only mapped: the session goes on", state_now(), SNAPBAK_STATE_ARMED);
	expect("only mapped: the write is still held", (long)session_counter(&session, SNAPBAK_C_HELD_NOW), 1);
	munmap(session.shm, session.map_size);
	device_close(&session.lower);
	expect("unmapped at last: the session ends", ends_soon(), 1);
	expect_release("unmapped at last: the held write goes on", writer);
}

static void an_inherited_descriptor(void)
{
	struct session session;
	pthread_t writer;
	pid_t child;

	arm(&session);
	writer = hold_a_write(&session);
	child = idle_child();
	session_close(&session);
	sleep_us(50000);
	expect("a child has the descriptor: the session goes on", state_now(), SNAPBAK_STATE_ARMED);
	end_child(child);
	expect("the child is killed: the session ends", ends_soon(), 1);
	expect_release("the child is killed: the held write goes on", writer);
}

static void send_descriptor(int channel, int fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec part = { .iov_base = "x", .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	if (sendmsg(channel, &message, 0) != 1)
		die("sendmsg: %s", strerror(errno));
}

static void a_descriptor_in_a_socket(void)
{
	struct session session;
	pthread_t writer;
	int channel[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel))
		die("socketpair: %s", strerror(errno));
	arm(&session);
	writer = hold_a_write(&session);
	send_descriptor(channel[0], session.control);
	session_close(&session);
	sleep_us(50000);
	expect("the descriptor is on its way: the session goes on", state_now(), SNAPBAK_STATE_ARMED);
	close(channel[0]);
	close(channel[1]);
	expect("it got lost: the session ends", ends_soon(), 1);
	expect_release("it got lost: the held write goes on", writer);
}

static __u64 held_now(void)
{
	struct snapbak_status status;

	return session_status(watcher, origin_dev, &status) ? 0 : status.counters[SNAPBAK_C_HELD_NOW];
}

/* A process that arms a session, and does the writing itself if @writes; returns when it is ready. */
static pid_t start_owner(int writes)
{
	struct session session;
	int ready[2];
	char byte;
	pid_t owner;

	if (pipe2(ready, O_CLOEXEC))
		die("pipe: %s", strerror(errno));
	owner = fork();
	if (!owner) {
		arm(&session);
		if (writes)
			hold_a_write(&session);
		(void)!write(ready[1], "x", 1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	expect("the owner is ready", read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return owner;
}

static void a_killed_owner(void)
{
	struct session next;
	pid_t owner = start_owner(0);
	pthread_t writer;

	if (pthread_create(&writer, NULL, write_two, NULL))
		die("no thread");
	while (!held_now())
		sleep_us(1000);
	expect("the owner runs: the session goes on", state_now(), SNAPBAK_STATE_ARMED);
	end_child(owner);
	expect("the owner is killed: the session ends", ends_soon(), 1);
	expect_release("the owner is killed: the held write goes on", writer);
	arm(&next);
	expect("the next session", state_now(), SNAPBAK_STATE_ARMED);
	session_close(&next);
	expect("it ends, too", ends_soon(), 1);
}

/* It cannot let go of its descriptor before its own write goes on. */
static void a_killed_owner_that_writes(void)
{
	pid_t owner = start_owner(1);

	expect("the owner runs, and waits for itself: the session goes on", state_now(), SNAPBAK_STATE_ARMED);
	kill(owner, SIGKILL);
	expect("it is killed: the session ends", ends_soon(), 1);
}

/* Bits cleared, but no kick: FINISH is the last that could tell the held write. */
static void a_finish_without_a_kick(void)
{
	struct session session;
	pthread_t writer;

	arm(&session);
	writer = hold_a_write(&session);
	memset(session.bitmap, 0, sizeof(__u64));
	expect("nothing is pending: it is finished", session_finish(&session), 0);
	expect_release("finished: the held write goes on", writer);
	/* too late for anybody to mind */
	snapbak_bitmap_set_range(session.bitmap, 0, 8);
	expect("set again: writes do not care", (long)write_two(NULL), 0);
	session_close(&session);
	expect("finished and closed: there is no session", ends_soon(), 1);
}

static void a_kept_page(void)
{
	struct session session;
	int channel[2];
	struct iovec part;

	/* a pipe of spliced pages outlives everything else of the session */
	if (pipe2(channel, O_CLOEXEC | O_NONBLOCK))
		die("pipe: %s", strerror(errno));
	arm(&session);
	part = (struct iovec){ .iov_base = session.slots, .iov_len = 1 << BLOCK_SHIFT };
	memset(session.slots, 0x5a, part.iov_len);
	expect("pages of a slot in a pipe", vmsplice(channel[1], &part, 1, 0) > 0, 1);
	session_close(&session);
	expect("a slot's pages are elsewhere: the session ends", ends_soon(), 1);
	{
		unsigned char data[4096];

		expect("they can be read still", read(channel[0], data, sizeof(data)), sizeof(data));
		expect("and are what they were", data[4095], 0x5a);
	}
	close(channel[0]);
	close(channel[1]);
}

int main(int argc, char **argv)
{
	struct stat status;

	if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "writer")))
		die("ORIGIN [writer]");
	origin = argv[1];
	alarm(300);
	watcher = open(SESSION_CONTROL, O_RDWR | O_CLOEXEC);
	if (watcher < 0 || stat(origin, &status))
		die("%s, %s: %s", SESSION_CONTROL, origin, strerror(errno));
	origin_dev = status.st_rdev;
	if (argc == 3) {
		a_killed_owner_that_writes();
		return expect_end();
	}
	a_closed_descriptor();
	a_mapping_alone();
	an_inherited_descriptor();
	a_descriptor_in_a_socket();
	a_killed_owner();
	a_finish_without_a_kick();
	a_kept_page();
	return expect_end();
}
