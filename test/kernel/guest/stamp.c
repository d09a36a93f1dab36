// SPDX-License-Identifier: MIT
#include "stamp.h"

#include <stdio.h>
#include <string.h>

#define WORDS (SECTOR / sizeof(__u64))
#define MAGIC 0x504d415453424e53ULL /* "SNBSTAMP" */

/* Words 0 to 3 say what it is, for people; the rest follow from them. */
static __u64 body_word(__u64 key, size_t i)
{
	return (key + i) * 0x9E3779B97F4A7C15ULL;
}

static __u64 key_of(__u64 seed, __u64 sector, __u64 generation)
{
	return mix64(seed ^ mix64(sector ^ mix64(generation)));
}

void stamp_fill(void *data, __u64 seed, __u64 first, __u64 count, __u32 generation)
{
	__u64 *word = data;
	__u64 sector;
	size_t i;

	for (sector = first; sector < first + count; sector++, word += WORDS) {
		__u64 key = key_of(seed, sector, generation);

		word[0] = MAGIC;
		word[1] = seed;
		word[2] = sector;
		word[3] = generation;
		for (i = 4; i < WORDS; i++)
			word[i] = body_word(key, i);
	}
}

static int is_zero(const __u64 *word)
{
	size_t i;

	for (i = 0; i < WORDS; i++)
		if (word[i])
			return 0;
	return 1;
}

__s64 stamp_read(const void *data, __u64 seed, __u64 sector)
{
	const __u64 *word = data;
	__u64 key;
	size_t i;

	if (!word[0])
		return is_zero(word) ? 0 : STAMP_RUBBISH;
	if (word[0] != MAGIC || word[1] != seed || word[2] != sector || !word[3] || word[3] >> 32)
		return STAMP_RUBBISH;
	key = key_of(seed, sector, word[3]);
	for (i = 4; i < WORDS; i++)
		if (word[i] != body_word(key, i))
			return STAMP_RUBBISH;
	return (__s64)word[3];
}

void stamp_describe(const void *data, char *text, size_t size)
{
	const __u64 *word = data;
	__s64 generation;

	if (is_zero(word)) {
		snprintf(text, size, "zeroes");
		return;
	}
	generation = stamp_read(data, word[1], word[2]);
	if (generation > 0)
		snprintf(text, size, "generation %lld of sector %llu (seed %llu)", generation, word[2], word[1]);
	else
		snprintf(text, size, "no stamp: %016llx %016llx %016llx %016llx", word[0], word[1], word[2], word[3]);
}
