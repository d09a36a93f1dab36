// SPDX-License-Identifier: MIT
/*
 * turns - what one 4 KiB request costs on several devices, measured in turn.
 *
 *   turns read|write DEPTH REQUESTS TURNS DEVICE...
 *
 * In each turn every device gets the same REQUESTS random requests, and another
 * one comes first. Prints a line a turn: nanoseconds a request, a column a device.
 * Requests go out DEPTH at a time and are all awaited: on a device that completes
 * at submission, as null_blk does here, that is queue depth DEPTH.
 */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LENGTH 4096
#define MOST_DEVICES 16
#define MOST_DEPTH 64

static struct {
	__u16 opcode;
	unsigned int depth;
	unsigned int requests;
	unsigned int turns;
} options;

static struct device devices[MOST_DEVICES];
static unsigned int nr_devices;
static aio_context_t aio;
static char *buffer;
static __u64 *offsets;

static unsigned int number(const char *what, const char *text, unsigned int most)
{
	__u64 n = parse_bytes(what, text);

	if (!n || n > most)
		die("%s: %s is not from 1 to %u", what, text, most);
	return (unsigned int)n;
}

static void submit(int fd, const __u64 *at, unsigned int n)
{
	struct iocb blocks[MOST_DEPTH], *list[MOST_DEPTH];
	struct io_event events[MOST_DEPTH];
	unsigned int i;

	for (i = 0; i < n; i++) {
		blocks[i] = (struct iocb){
			.aio_lio_opcode = options.opcode,
			.aio_fildes = (__u32)fd,
			.aio_buf = (__u64)(buffer + (size_t)i * LENGTH),
			.aio_nbytes = LENGTH,
			.aio_offset = (__s64)at[i],
		};
		list[i] = &blocks[i];
	}
	if (syscall(SYS_io_submit, aio, (long)n, list) != (long)n)
		die("io_submit: %s", strerror(errno));
	if (syscall(SYS_io_getevents, aio, (long)n, (long)n, events, NULL) != (long)n)
		die("io_getevents: %s", strerror(errno));
	for (i = 0; i < n; i++) {
		if (events[i].res != LENGTH)
			die("a request of %d bytes ended with %lld", LENGTH, events[i].res);
	}
}

static __u64 run(const struct device *device)
{
	__u64 begin = now_ns();
	unsigned int i;

	for (i = 0; i < options.requests; i += options.depth) {
		unsigned int left = options.requests - i;

		submit(device->fd, offsets + i, left < options.depth ? left : options.depth);
	}
	return now_ns() - begin;
}

static void turn(struct random *random, unsigned int first)
{
	__u64 took[MOST_DEVICES];
	unsigned int i;

	for (i = 0; i < options.requests; i++)
		offsets[i] = random_below(random, devices[0].bytes / LENGTH) * LENGTH;
	for (i = 0; i < nr_devices; i++) {
		unsigned int which = (first + i) % nr_devices;

		took[which] = run(&devices[which]);
	}
	for (i = 0; i < nr_devices; i++)
		printf("%.1f%c", (double)took[i] / options.requests, i + 1 < nr_devices ? ' ' : '\n');
}

/* One CPU for all of it: a migration is a difference between devices that is none of theirs. */
static void pin(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity: %s", strerror(errno));
}

static void open_devices(char **paths)
{
	for (; *paths; paths++, nr_devices++) {
		int error;

		if (nr_devices == MOST_DEVICES)
			die("more than %d devices", MOST_DEVICES);
		error = device_open(&devices[nr_devices], *paths, O_RDWR);
		if (error)
			die("%s: %s", *paths, strerror(-error));
		if (devices[nr_devices].bytes != devices[0].bytes)
			die("%s is not of the size of the first device", *paths);
	}
}

int main(int argc, char **argv)
{
	struct random random = { .state = 1 };
	unsigned int i;

	if (argc < 6 || (strcmp(argv[1], "read") && strcmp(argv[1], "write")))
		die("turns read|write DEPTH REQUESTS TURNS DEVICE...");
	options.opcode = *argv[1] == 'r' ? IOCB_CMD_PREAD : IOCB_CMD_PWRITE;
	options.depth = number("DEPTH", argv[2], MOST_DEPTH);
	options.requests = number("REQUESTS", argv[3], 1 << 20);
	options.turns = number("TURNS", argv[4], 1 << 20);
	open_devices(argv + 5);
	buffer = allocate_aligned((size_t)MOST_DEPTH * LENGTH);
	offsets = allocate(options.requests * sizeof(*offsets));
	if (syscall(SYS_io_setup, MOST_DEPTH, &aio))
		die("io_setup: %s", strerror(errno));
	pin();
	for (i = 0; i < options.turns; i++)
		turn(&random, i);
	return 0;
}
