/* SPDX-License-Identifier: MIT */
/*
 * contents.h - what a device must hold, sector by sector: a generation each.
 *
 * Kept in a file that is mapped, so that one program can write, another check,
 * and a script copy it to remember an instant.
 */
#ifndef GUEST_CONTENTS_H
#define GUEST_CONTENTS_H

#include "stamp.h"

/* A sector whose content is not known, after a write that failed. */
#define CONTENTS_UNKNOWN 0xFFFFFFFFu

struct contents_file {
	__u64 magic;
	__u64 seed; /* of the stamps */
	__u64 sectors;
	__u64 next; /* the next generation to hand out; atomic */
	__u32 generation[];
};

struct contents {
	struct contents_file *file;
	size_t bytes;
};

/* @path: NULL for memory alone. All sectors begin as zeroes. */
void contents_create(struct contents *contents, const char *path, __u64 seed, __u64 sectors);
void contents_open(struct contents *contents, const char *path);
void contents_close(struct contents *contents);

static inline __u32 contents_next(struct contents *contents)
{
	return (__u32)__atomic_fetch_add(&contents->file->next, 1, __ATOMIC_RELAXED);
}

/* Writes a stamp to every sector of the device; one generation for all. 0 or a negative errno. */
int contents_fill(struct contents *contents, int fd);

void contents_set(struct contents *contents, __u64 first, __u64 count, __u32 generation);

/* After a discard of these sectors: learns which it zeroed. Dies on any other content than the old or zeroes. */
void contents_look_back(struct contents *contents, int fd, __u64 first, __u64 count);

/*
 * Compares @count sectors of @fd, from device sector @first at file offset
 * @offset on, with what they must hold; prints the first differences.
 * Return: how many sectors differ.
 */
__u64 contents_check(const struct contents *contents, const char *name, int fd, __u64 offset, __u64 first,
		     __u64 count);

#endif /* GUEST_CONTENTS_H */
