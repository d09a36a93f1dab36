// SPDX-License-Identifier: MIT
#include "contents.h"

#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x544e4f43424b4e53ULL /* "SNKBCONT" */
#define CHUNK_SECTORS 2048
#define SHOWN 8

static void map(struct contents *contents, const char *path, int fd, size_t bytes)
{
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (memory == MAP_FAILED)
		die("%s: %s", path ? path : "memory", strerror(errno));
	contents->file = memory;
	contents->bytes = bytes;
	if (fd >= 0)
		close(fd);
}

void contents_create(struct contents *contents, const char *path, __u64 seed, __u64 sectors)
{
	size_t bytes = sizeof(struct contents_file) + sectors * sizeof(__u32);
	int fd = -1;

	if (path) {
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)bytes))
			die("%s: %s", path, strerror(errno));
	}
	map(contents, path, fd, bytes);
	contents->file->magic = MAGIC;
	contents->file->seed = seed;
	contents->file->sectors = sectors;
	contents->file->next = 1;
}

void contents_open(struct contents *contents, const char *path)
{
	struct stat status;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &status))
		die("%s: %s", path, strerror(errno));
	if ((size_t)status.st_size < sizeof(struct contents_file))
		die("%s: no contents file", path);
	map(contents, path, fd, (size_t)status.st_size);
	if (contents->file->magic != MAGIC ||
	    contents->bytes != sizeof(struct contents_file) + contents->file->sectors * sizeof(__u32))
		die("%s: no contents file", path);
}

void contents_close(struct contents *contents)
{
	munmap(contents->file, contents->bytes);
}

void contents_set(struct contents *contents, __u64 first, __u64 count, __u32 generation)
{
	__u64 i;

	for (i = first; i < first + count; i++)
		contents->file->generation[i] = generation;
}

int contents_fill(struct contents *contents, int fd)
{
	char *buffer = allocate_aligned((size_t)CHUNK_SECTORS * SECTOR);
	__u32 generation = contents_next(contents);
	__u64 first, n;
	int error = 0;

	for (first = 0; first < contents->file->sectors && !error; first += n) {
		n = contents->file->sectors - first;
		if (n > CHUNK_SECTORS)
			n = CHUNK_SECTORS;
		stamp_fill(buffer, contents->file->seed, first, n, generation);
		error = write_fully(fd, buffer, n * SECTOR, first * SECTOR);
		contents_set(contents, first, n, generation);
	}
	free(buffer);
	return error;
}

void contents_look_back(struct contents *contents, int fd, __u64 first, __u64 count)
{
	char *buffer = allocate_aligned(count * SECTOR);
	int error = read_fully(fd, buffer, count * SECTOR, first * SECTOR);
	__u64 i;

	if (error)
		die("reading back %llu sectors at %llu: %s", count, first, strerror(-error));
	for (i = 0; i < count; i++) {
		__u32 *generation = &contents->file->generation[first + i];
		__s64 is = stamp_read(buffer + i * SECTOR, contents->file->seed, first + i);

		if (is && is != *generation)
			die("a discard turned sector %llu of generation %u into %lld", first + i, *generation, is);
		*generation = (__u32)is;
	}
	free(buffer);
}

static void tell(const char *name, __u64 sector, const void *data, __u32 want)
{
	char text[120];

	stamp_describe(data, text, sizeof(text));
	fprintf(stderr, "%s: sector %llu (byte %llu): %s, must be generation %u\n", name, sector, sector * SECTOR, text,
		want);
}

__u64 contents_check(const struct contents *contents, const char *name, int fd, __u64 offset, __u64 first,
		     __u64 count)
{
	char *buffer = allocate_aligned((size_t)CHUNK_SECTORS * SECTOR);
	__u64 wrong = 0;

	while (count) {
		__u64 n = count < CHUNK_SECTORS ? count : CHUNK_SECTORS;
		int error = read_fully(fd, buffer, n * SECTOR, offset);
		__u64 i;

		if (error)
			die("%s: reading %llu bytes at %llu: %s", name, n * SECTOR, offset, strerror(-error));
		for (i = 0; i < n; i++) {
			__u32 want = contents->file->generation[first + i];
			const char *data = buffer + i * SECTOR;

			if (want == CONTENTS_UNKNOWN || stamp_read(data, contents->file->seed, first + i) == want)
				continue;
			if (wrong++ < SHOWN)
				tell(name, first + i, data, want);
		}
		first += n;
		count -= n;
		offset += n * SECTOR;
	}
	free(buffer);
	return wrong;
}
