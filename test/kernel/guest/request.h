/* SPDX-License-Identifier: MIT */
/*
 * request.h - one request of each kind that applications can send a block device.
 */
#ifndef GUEST_REQUEST_H
#define GUEST_REQUEST_H

#include "device.h"

enum request_kind {
	REQUEST_WRITE, /* O_DIRECT */
	REQUEST_DSYNC, /* RWF_DSYNC: FUA, or a flush behind it */
	REQUEST_NOWAIT, /* RWF_NOWAIT; again without it after EAGAIN */
	REQUEST_BUFFERED, /* through the page cache, then fdatasync */
	REQUEST_ZEROOUT, /* BLKZEROOUT */
	REQUEST_ZERO_RANGE, /* fallocate: may unmap or write zeroes */
	REQUEST_PUNCH_HOLE, /* fallocate: must be done by unmapping */
	REQUEST_DISCARD, /* BLKDISCARD: advice, the content may stay */
	REQUEST_SECURE_DISCARD, /* BLKSECDISCARD */
	REQUEST_FLUSH,
	REQUEST_KINDS
};

/* Where requests go: both descriptors are of one device. */
struct request_target {
	struct device direct;
	int buffered;
};

struct request_counts {
	__u64 done[REQUEST_KINDS];
	__u64 unsupported[REQUEST_KINDS]; /* -EOPNOTSUPP; nothing to be concluded about the content */
	__u64 again; /* EAGAINs of REQUEST_NOWAIT */
	__u64 slowest_ns;
};

extern const char *const request_names[REQUEST_KINDS];

/* A kind by its name; dies on another. */
enum request_kind request_kind_of(const char *name);

/* Does it carry data? Does it leave zeroes for certain? Else the content must be looked at. */
static inline int request_has_data(enum request_kind kind)
{
	return kind <= REQUEST_BUFFERED;
}

static inline int request_is_zeroing(enum request_kind kind)
{
	return kind >= REQUEST_ZEROOUT && kind <= REQUEST_PUNCH_HOLE;
}

int request_target_open(struct request_target *target, const char *path);
void request_target_close(struct request_target *target);

/* @data: of @bytes, for kinds that have data. Return: 0 or a negative errno. */
int request_issue(const struct request_target *target, enum request_kind kind, const void *data, __u64 bytes,
		  __u64 offset, struct request_counts *counts);

void request_counts_add(struct request_counts *sum, const struct request_counts *counts);

/* "{"write": 12, ...}" on stdout. */
void request_counts_print(const struct request_counts *counts);

#endif /* GUEST_REQUEST_H */
