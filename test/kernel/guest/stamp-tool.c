// SPDX-License-Identifier: MIT
/*
 * stamp-tool - the stamped-sector loops, in steps that a script puts together:
 *
 *   stamp-tool fill DEVICE CONTENTS            a stamp in every sector; begins CONTENTS
 *   stamp-tool put DEVICE CONTENTS KIND OFFSET LENGTH
 *                                              one request; prints how long it took
 *   stamp-tool churn DEVICE CONTENTS [--seed N] [--threads N] [--requests N] [--kinds NAME,...]
 *                    [--block-size BYTES] [--pause US] [--until FILE]
 *                                              many, until FILE exists or N were done
 *   stamp-tool check FILE CONTENTS [--list OFFSET:LENGTH]... [--offset BYTES]
 *                                              does FILE hold what CONTENTS says?
 *
 * CONTENTS is a file that remembers what each sector holds; copy it to remember an instant.
 */
#include "writers.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fill(const char *path, const char *contents_path)
{
	struct contents contents;
	struct device device;
	int error = device_open(&device, path, O_RDWR);

	if (error)
		die("%s: %s", path, strerror(-error));
	contents_create(&contents, contents_path, now_ns(), device.bytes / SECTOR);
	error = contents_fill(&contents, device.fd);
	if (error)
		die("%s: %s", path, strerror(-error));
	return 0;
}

/* Prints {"error": "EIO", "ms": 12}; after an error the sectors count as unknown. */
static int put(const char *path, const char *contents_path, const char *kind_name, const char *offset_text,
	       const char *length_text)
{
	enum request_kind kind = request_kind_of(kind_name);
	__u64 offset = parse_bytes("OFFSET", offset_text), length = parse_bytes("LENGTH", length_text);
	struct request_counts counts = { 0 };
	struct request_target target;
	struct contents contents;
	void *data = allocate_aligned(length);
	__u32 generation = 0;
	int error = request_target_open(&target, path);

	if (error)
		die("%s: %s", path, strerror(-error));
	contents_open(&contents, contents_path);
	if (length % SECTOR || offset % SECTOR || (offset + length) / SECTOR > contents.file->sectors)
		die("%llu bytes at %llu are no sectors of %s", length, offset, path);
	if (request_has_data(kind)) {
		generation = contents_next(&contents);
		stamp_fill(data, contents.file->seed, offset / SECTOR, length / SECTOR, generation);
	}
	error = request_issue(&target, kind, data, length, offset, &counts);
	if (error && error != -EOPNOTSUPP)
		generation = CONTENTS_UNKNOWN;
	if (!error && (kind == REQUEST_DISCARD || kind == REQUEST_SECURE_DISCARD))
		contents_look_back(&contents, target.direct.fd, offset / SECTOR, length / SECTOR);
	else if (kind != REQUEST_FLUSH && error != -EOPNOTSUPP)
		contents_set(&contents, offset / SECTOR, length / SECTOR, generation);
	printf("{\"error\": \"%s\", \"ms\": %llu, \"eagain\": %llu}\n", error ? strerrorname_np(-error) : "",
	       counts.slowest_ns / 1000000, counts.again);
	request_target_close(&target);
	return error ? 2 : 0;
}

static __u32 parse_kinds(char *text)
{
	__u32 kinds = 0;
	char *name;

	for (name = strtok(text, ","); name; name = strtok(NULL, ","))
		kinds |= 1u << request_kind_of(name);
	return kinds;
}

static int churn(const char *path, const char *contents_path, int argc, char **argv)
{
	static const struct option names[] = {
		{ "seed", required_argument, NULL, 's' },	{ "threads", required_argument, NULL, 't' },
		{ "requests", required_argument, NULL, 'r' },	{ "kinds", required_argument, NULL, 'k' },
		{ "block-size", required_argument, NULL, 'b' }, { "pause", required_argument, NULL, 'p' },
		{ "until", required_argument, NULL, 'u' },	{ 0 },
	};
	struct writers_options writing = { .threads = 4, .seed = 1, .block_size = 65536, .kinds = 1u << REQUEST_WRITE };
	struct writers *writers = allocate(sizeof(*writers));
	struct request_counts counts = { 0 };
	struct history history = { 0 };
	struct contents contents;
	const char *until = NULL;
	__u64 requests = ~0ULL;
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 's':
			writing.seed = parse_bytes("--seed", optarg);
			break;
		case 't':
			writing.threads = (unsigned int)parse_bytes("--threads", optarg);
			break;
		case 'r':
			requests = parse_bytes("--requests", optarg);
			break;
		case 'k':
			writing.kinds = parse_kinds(optarg);
			break;
		case 'b':
			writing.block_size = parse_bytes("--block-size", optarg);
			break;
		case 'p':
			writing.pause_us = parse_bytes("--pause", optarg);
			break;
		case 'u':
			until = optarg;
			break;
		default:
			exit(1);
		}
	}
	if (!until && requests == ~0ULL)
		die("churn: give --requests or --until");
	if (!writing.threads || writing.threads > WRITERS_MAX || !writing.kinds || !writing.block_size)
		die("churn: 1 to %d threads, at least one kind, a block size", WRITERS_MAX);
	contents_open(&contents, contents_path);
	writers_start(writers, &writing, path, &contents);
	while (atomic_load(&writers->requests) < requests && !(until && !access(until, F_OK)))
		sleep_us(1000);
	writers_stop(writers, &history, NULL, &counts);
	request_counts_print(&counts);
	putchar('\n');
	return 0;
}

static int check(const char *path, const char *contents_path, int argc, char **argv)
{
	static const struct option names[] = {
		{ "list", required_argument, NULL, 'l' },
		{ "offset", required_argument, NULL, 'o' },
		{ 0 },
	};
	struct contents contents;
	struct device device;
	__u64 base = 0, wrong = 0;
	int listed = 0, option;
	int error = device_open(&device, path, O_RDONLY);

	if (error)
		die("%s: %s", path, strerror(-error));
	contents_open(&contents, contents_path);
	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		char *colon;
		__u64 offset, length;

		if (option == 'o') {
			base = parse_bytes("--offset", optarg);
			continue;
		}
		colon = option == 'l' ? strchr(optarg, ':') : NULL;
		if (!colon)
			die("check: --list OFFSET:LENGTH, --offset BYTES");
		*colon = '\0';
		offset = parse_bytes("--list", optarg);
		length = parse_bytes("--list", colon + 1);
		if ((offset + length) / SECTOR > contents.file->sectors)
			die("check: --list goes beyond the end");
		wrong += contents_check(&contents, path, device.fd, base + offset, offset / SECTOR, length / SECTOR);
		listed = 1;
	}
	if (!listed)
		wrong = contents_check(&contents, path, device.fd, base, 0, contents.file->sectors);
	if (wrong)
		die("%s: %llu sectors are wrong", path, wrong);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "fill"))
		return fill(argv[2], argv[3]);
	if (argc == 7 && !strcmp(argv[1], "put"))
		return put(argv[2], argv[3], argv[4], argv[5], argv[6]);
	if (argc >= 4 && !strcmp(argv[1], "churn"))
		return churn(argv[2], argv[3], argc - 3, argv + 3);
	if (argc >= 4 && !strcmp(argv[1], "check"))
		return check(argv[2], argv[3], argc - 3, argv + 3);
	die("fill DEVICE CONTENTS | put DEVICE CONTENTS KIND OFFSET LENGTH | churn DEVICE CONTENTS ... | check FILE CONTENTS ...");
}
