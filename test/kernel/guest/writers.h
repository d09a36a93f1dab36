/* SPDX-License-Identifier: MIT */
/*
 * writers.h - threads that send a device every kind of request, and know what it holds.
 *
 * They run until they are stopped, keep the contents exact (a discard is read
 * back: it may leave a sector or zero it), and log each request for history.h.
 */
#ifndef GUEST_WRITERS_H
#define GUEST_WRITERS_H

#include "contents.h"
#include "history.h"
#include "range-lock.h"
#include "request.h"

#include <stdatomic.h>

#define WRITERS_MAX 32

struct writers_options {
	unsigned int threads; /* the last one writes through the page cache, if kinds has BUFFERED */
	__u64 seed;
	__u64 block_size; /* request sizes are drawn around it */
	__u32 kinds; /* a bit for each request_kind */
	__u64 pause_us; /* after each request, up to so long */
	int quiesce; /* writers_quiesce() will be used */
	int may_fail; /* EIO is borne: the request's sectors are CONTENTS_UNKNOWN from then on */
};

struct writers;

struct writer {
	struct writers *all;
	unsigned int number;
	pthread_t thread;
	struct random random;
	struct history history;
	struct history failed; /* requests that failed; acknowledged: when they did */
	struct request_counts counts;
	unsigned char *data, *look;
};

struct writers {
	struct writers_options options;
	struct request_target target;
	struct contents *contents;
	struct range_lock ranges;
	pthread_rwlock_t gate;
	atomic_int stop;
	atomic_ullong requests; /* so many were acknowledged */
	__u64 buffered_first, buffered_end; /* sectors that the page cache has for itself */
	struct writer writer[WRITERS_MAX];
};

/* Opens @device and starts the threads; they die, with a sentence, on any other error of a request. */
void writers_start(struct writers *writers, const struct writers_options *options, const char *device,
		   struct contents *contents);

/* Waits until @more requests were acknowledged from now on. */
void writers_progress(struct writers *writers, __u64 more);

/* No request is under way between these two; only with options.quiesce. */
void writers_quiesce(struct writers *writers);
void writers_resume(struct writers *writers);

/* Ends the threads; puts their logs and counts together. @failed: NULL unless options.may_fail. */
void writers_stop(struct writers *writers, struct history *history, struct history *failed,
		  struct request_counts *counts);

#endif /* GUEST_WRITERS_H */
