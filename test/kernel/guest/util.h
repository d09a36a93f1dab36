/* SPDX-License-Identifier: MIT */
/*
 * util.h - what every guest program needs: dying with a sentence, the clock,
 * aligned memory, numbers from the command line, a seeded generator.
 */
#ifndef GUEST_UTIL_H
#define GUEST_UTIL_H

#include <linux/types.h>
#include <stddef.h>

#define SECTOR 512

/* Prints "PROGRAM: ..." to stderr and exits with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* CLOCK_MONOTONIC, the clock of snapbak_shm.start_monotonic_ns. */
__u64 now_ns(void);

void sleep_us(__u64 us);

/* Zeroed memory; dies when there is none. */
void *allocate(size_t bytes);

/* Memory fit for O_DIRECT. */
void *allocate_aligned(size_t bytes);

/* "64K", "1M", "4096"; dies on anything else, naming @what. */
__u64 parse_bytes(const char *what, const char *text);

/* splitmix64: small, seeded, good enough to draw test cases. */
struct random {
	__u64 state;
};

static inline __u64 mix64(__u64 z)
{
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
	return z ^ (z >> 31);
}

static inline __u64 random_next(struct random *random)
{
	return mix64(random->state += 0x9E3779B97F4A7C15ULL);
}

/* 0 to @n - 1. */
static inline __u64 random_below(struct random *random, __u64 n)
{
	return random_next(random) % n;
}

#endif /* GUEST_UTIL_H */
