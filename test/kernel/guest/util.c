// SPDX-License-Identifier: MIT
#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

__u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (__u64)now.tv_sec * 1000000000ULL + (__u64)now.tv_nsec;
}

void sleep_us(__u64 us)
{
	struct timespec left = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000) };

	while (us && nanosleep(&left, &left) && errno == EINTR)
		;
}

void *allocate(size_t bytes)
{
	void *memory = calloc(1, bytes ? bytes : 1);

	if (!memory)
		die("no memory for %zu bytes", bytes);
	return memory;
}

void *allocate_aligned(size_t bytes)
{
	void *memory;

	if (posix_memalign(&memory, 4096, bytes))
		die("no memory for %zu bytes", bytes);
	memset(memory, 0, bytes);
	return memory;
}

__u64 parse_bytes(const char *what, const char *text)
{
	char *end;
	__u64 n;

	errno = 0;
	n = strtoull(text, &end, 0);
	if (errno || end == text || *text == '-')
		die("%s: \"%s\" is not a number", what, text);
	switch (*end) {
	case 'G':
		n <<= 10;
		__attribute__((fallthrough));
	case 'M':
		n <<= 10;
		__attribute__((fallthrough));
	case 'K':
		n <<= 10;
		end++;
	}
	if (*end)
		die("%s: \"%s\" is not a number", what, text);
	return n;
}
