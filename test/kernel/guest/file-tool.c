// SPDX-License-Identifier: MIT
/*
 * file-tool - files whose content their name tells, many in one process: a shell
 * starts four for each, which an emulated machine takes long for.
 *
 *   file-tool write FOLDER FIRST LAST BYTES TEXT [GAP-BYTES]
 *                       the files FIRST to LAST; behind each, a file gap-N of so many bytes
 *   file-tool check FOLDER FIRST LAST BYTES TEXT
 *                       are they there, with this content and no other?
 *   file-tool stream FOLDER LOG BYTES TEXT
 *                       0, 1, 2, ... until it is killed, a tenth of a second between them, and
 *                       more where one takes long: a slow machine has other things to do, too;
 *                       LOG gets "N BEGIN DURABLE" of each, in seconds since the epoch
 *   file-tool check-log FOLDER LOG BYTES TEXT
 *                       is each file there that LOG calls durable?
 *
 * A file is BYTES of the line TEXT, in which # stands for the file's number.
 */
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_US 100000

struct files {
	const char *folder;
	const char *text;
	size_t bytes;
	char *content;
	char *found;
};

static void fill(struct files *files, unsigned long number)
{
	const char *mark = strchr(files->text, '#');
	char line[256];
	size_t length, at;

	if (!mark)
		die("there is no # in \"%s\"", files->text);
	length = (size_t)snprintf(line, sizeof(line), "%.*s%lu%s\n", (int)(mark - files->text), files->text, number,
				  mark + 1);
	if (length >= sizeof(line))
		die("\"%s\" is too long", files->text);
	for (at = 0; at < files->bytes; at += length)
		memcpy(files->content + at, line, length < files->bytes - at ? length : files->bytes - at);
}

static void write_file(const char *path, const char *content, size_t bytes, bool durable)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t done;

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	for (; bytes; content += done, bytes -= (size_t)done) {
		done = write(fd, content, bytes);
		if (done < 0)
			die("%s: %s", path, strerror(errno));
	}
	if ((durable && fsync(fd)) || close(fd))
		die("%s: %s", path, strerror(errno));
}

static void write_number(struct files *files, unsigned long number, bool durable)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%lu", files->folder, number);
	fill(files, number);
	write_file(path, files->content, files->bytes, durable);
}

static void check_number(struct files *files, unsigned long number)
{
	char path[4096];
	size_t done = 0;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "%s/%lu", files->folder, number);
	fill(files, number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	/* one byte more than there should be */
	while ((got = read(fd, files->found + done, files->bytes + 1 - done)) > 0)
		done += (size_t)got;
	if (got < 0)
		die("%s: %s", path, strerror(errno));
	close(fd);
	if (done != files->bytes)
		die("%s: it has not %zu bytes", path, files->bytes);
	if (memcmp(files->found, files->content, files->bytes))
		die("%s: it has another content", path);
}

static void write_files(struct files *files, unsigned long first, unsigned long last, size_t gap)
{
	char *nothing = allocate(gap);
	char path[4096];

	for (; first <= last; first++) {
		write_number(files, first, false);
		if (!gap)
			continue;
		snprintf(path, sizeof(path), "%s/gap-%lu", files->folder, first);
		write_file(path, nothing, gap, false);
	}
}

static void stream(struct files *files, const char *log)
{
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	struct timespec begin, durable;
	unsigned long number;
	__u64 started, pause;

	if (fd < 0)
		die("%s: %s", log, strerror(errno));
	for (number = 0;; number++) {
		started = now_ns();
		clock_gettime(CLOCK_REALTIME, &begin);
		write_number(files, number, true);
		clock_gettime(CLOCK_REALTIME, &durable);
		if (dprintf(fd, "%lu %lld.%06ld %lld.%06ld\n", number, (long long)begin.tv_sec, begin.tv_nsec / 1000,
			    (long long)durable.tv_sec, durable.tv_nsec / 1000) < 0)
			die("%s: %s", log, strerror(errno));
		pause = (now_ns() - started) / 1000 * 4;
		sleep_us(pause > PAUSE_US ? pause : PAUSE_US);
	}
}

static void check_log(struct files *files, const char *log)
{
	FILE *lines = fopen(log, "re");
	unsigned long number, checked = 0;

	if (!lines)
		die("%s: %s", log, strerror(errno));
	while (fscanf(lines, "%lu%*[^\n]", &number) == 1) {
		check_number(files, number);
		checked++;
	}
	if (!feof(lines) || !checked)
		die("%s: it cannot be read", log);
	fclose(lines);
}

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	bool range = !strcmp(command, "write") || !strcmp(command, "check");
	struct files files;

	if (argc != (range ? 7 : 6) && !(argc == 8 && !strcmp(command, "write")))
		die("see the beginning of its source");
	files.folder = argv[2];
	files.bytes = parse_bytes("BYTES", argv[range ? 5 : 4]);
	files.text = argv[range ? 6 : 5];
	files.content = allocate(files.bytes);
	files.found = allocate(files.bytes + 1);
	if (!strcmp(command, "write"))
		write_files(&files, parse_bytes("FIRST", argv[3]), parse_bytes("LAST", argv[4]),
			    argc == 8 ? parse_bytes("GAP-BYTES", argv[7]) : 0);
	else if (!strcmp(command, "check"))
		for (__u64 n = parse_bytes("FIRST", argv[3]); n <= parse_bytes("LAST", argv[4]); n++)
			check_number(&files, n);
	else if (!strcmp(command, "stream"))
		stream(&files, argv[3]);
	else if (!strcmp(command, "check-log"))
		check_log(&files, argv[3]);
	else
		die("there is no command %s", command);
	return 0;
}
