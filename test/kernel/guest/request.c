// SPDX-License-Identifier: MIT
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

const char *const request_names[REQUEST_KINDS] = {
	[REQUEST_WRITE] = "write",
	[REQUEST_DSYNC] = "dsync",
	[REQUEST_NOWAIT] = "nowait",
	[REQUEST_BUFFERED] = "buffered",
	[REQUEST_ZEROOUT] = "zeroout",
	[REQUEST_ZERO_RANGE] = "zero-range",
	[REQUEST_PUNCH_HOLE] = "punch-hole",
	[REQUEST_DISCARD] = "discard",
	[REQUEST_SECURE_DISCARD] = "secure-discard",
	[REQUEST_FLUSH] = "flush",
};

enum request_kind request_kind_of(const char *name)
{
	enum request_kind kind;

	for (kind = 0; kind < REQUEST_KINDS; kind++)
		if (!strcmp(request_names[kind], name))
			return kind;
	die("%s is no kind of request", name);
}

int request_target_open(struct request_target *target, const char *path)
{
	int error = device_open(&target->direct, path, O_RDWR);

	if (error)
		return error;
	target->buffered = open(path, O_RDWR | O_CLOEXEC);
	if (target->buffered >= 0)
		return 0;
	error = -errno;
	device_close(&target->direct);
	return error;
}

void request_target_close(struct request_target *target)
{
	close(target->buffered);
	device_close(&target->direct);
}

static int write_with(int fd, const void *data, __u64 bytes, __u64 offset, int flags)
{
	struct iovec part = { .iov_base = (void *)data, .iov_len = bytes };
	ssize_t n = pwritev2(fd, &part, 1, (off_t)offset, flags);

	if (n < 0)
		return -errno;
	if ((__u64)n == bytes)
		return 0;
	/* a short write says that the rest is still to do */
	return write_fully(fd, (const char *)data + n, bytes - (__u64)n, offset + (__u64)n);
}

static int write_nowait(int fd, const void *data, __u64 bytes, __u64 offset, struct request_counts *counts)
{
	int error = write_with(fd, data, bytes, offset, RWF_NOWAIT);

	if (error != -EAGAIN && error != -EOPNOTSUPP)
		return error;
	counts->again += error == -EAGAIN;
	counts->unsupported[REQUEST_NOWAIT] += error == -EOPNOTSUPP;
	return write_fully(fd, data, bytes, offset);
}

static int write_buffered(int fd, const void *data, __u64 bytes, __u64 offset)
{
	int error = write_fully(fd, data, bytes, offset);

	return error ? error : fdatasync(fd) ? -errno : 0;
}

static int control(int fd, unsigned long command, __u64 bytes, __u64 offset)
{
	__u64 range[2] = { offset, bytes };

	return ioctl(fd, command, range) ? -errno : 0;
}

static int allocate_range(int fd, int mode, __u64 bytes, __u64 offset)
{
	return fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes) ? -errno : 0;
}

static int issue(const struct request_target *target, enum request_kind kind, const void *data, __u64 bytes,
		 __u64 offset, struct request_counts *counts)
{
	int fd = target->direct.fd;

	switch (kind) {
	case REQUEST_WRITE:
		return write_fully(fd, data, bytes, offset);
	case REQUEST_DSYNC:
		return write_with(fd, data, bytes, offset, RWF_DSYNC);
	case REQUEST_NOWAIT:
		return write_nowait(fd, data, bytes, offset, counts);
	case REQUEST_BUFFERED:
		return write_buffered(target->buffered, data, bytes, offset);
	case REQUEST_ZEROOUT:
		return control(fd, BLKZEROOUT, bytes, offset);
	case REQUEST_ZERO_RANGE:
		return allocate_range(fd, FALLOC_FL_ZERO_RANGE, bytes, offset);
	case REQUEST_PUNCH_HOLE:
		return allocate_range(fd, FALLOC_FL_PUNCH_HOLE, bytes, offset);
	case REQUEST_DISCARD:
		return control(fd, BLKDISCARD, bytes, offset);
	case REQUEST_SECURE_DISCARD:
		return control(fd, BLKSECDISCARD, bytes, offset);
	case REQUEST_FLUSH:
		return fdatasync(fd) ? -errno : 0;
	default:
		return -EINVAL;
	}
}

int request_issue(const struct request_target *target, enum request_kind kind, const void *data, __u64 bytes,
		  __u64 offset, struct request_counts *counts)
{
	__u64 begin = now_ns();
	int error = issue(target, kind, data, bytes, offset, counts);
	__u64 took = now_ns() - begin;

	if (took > counts->slowest_ns)
		counts->slowest_ns = took;
	counts->done[kind] += !error;
	counts->unsupported[kind] += error == -EOPNOTSUPP;
	return error;
}

void request_counts_add(struct request_counts *sum, const struct request_counts *counts)
{
	enum request_kind kind;

	for (kind = 0; kind < REQUEST_KINDS; kind++) {
		sum->done[kind] += counts->done[kind];
		sum->unsupported[kind] += counts->unsupported[kind];
	}
	sum->again += counts->again;
	if (counts->slowest_ns > sum->slowest_ns)
		sum->slowest_ns = counts->slowest_ns;
}

void request_counts_print(const struct request_counts *counts)
{
	enum request_kind kind;

	putchar('{');
	for (kind = 0; kind < REQUEST_KINDS; kind++)
		printf("\"%s\": %llu, ", request_names[kind], counts->done[kind]);
	printf("\"unsupported\": {");
	for (kind = 0; kind < REQUEST_KINDS; kind++)
		printf("%s\"%s\": %llu", kind ? ", " : "", request_names[kind], counts->unsupported[kind]);
	printf("}, \"eagain\": %llu, \"slowestMs\": %llu}", counts->again, counts->slowest_ns / 1000000);
}
