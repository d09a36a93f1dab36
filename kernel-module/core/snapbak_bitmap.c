// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * snapbak_bitmap.c - ranges and searches over the pending bitmap.
 *
 * Searches read words that the other side may clear meanwhile: an answer is a
 * hint about the past, and only a claim decides.
 */
#include "snapbak_bitmap.h"

/**
 * snapbak_bitmap_set_range() - mark blocks pending.
 * @map: the bitmap.
 * @first: first block.
 * @count: number of blocks.
 *
 * Context: any; does not sleep. Only while the session is READY.
 */
void snapbak_bitmap_set_range(__u64 *map, __u64 first, __u64 count)
{
	while (count) {
		__u64 in_word = SNAPBAK_WORD_BITS - first % SNAPBAK_WORD_BITS;
		__u64 n = count < in_word ? count : in_word;

		snapbak_fetch_set(&map[first / SNAPBAK_WORD_BITS], snapbak_bitmap_mask(first, n));
		first += n;
		count -= n;
	}
}

/**
 * snapbak_bitmap_count() - how many of a range are pending.
 * @map: the bitmap.
 * @first: first block.
 * @count: number of blocks.
 *
 * Context: any; does not sleep.
 * Return: the number of set bits, each word as it was when it was read.
 */
__u64 snapbak_bitmap_count(const __u64 *map, __u64 first, __u64 count)
{
	__u64 sum = 0;

	while (count) {
		__u64 in_word = SNAPBAK_WORD_BITS - first % SNAPBAK_WORD_BITS;
		__u64 n = count < in_word ? count : in_word;

		sum += snapbak_popcount(snapbak_load_relaxed(&map[first / SNAPBAK_WORD_BITS]) &
					snapbak_bitmap_mask(first, n));
		first += n;
		count -= n;
	}
	return sum;
}

/* The first block in [first, end) whose bit, after xor with @flip, is set; else @end. */
static __u64 next(const __u64 *map, __u64 first, __u64 end, __u64 flip)
{
	while (first < end) {
		__u64 word = snapbak_load_acquire(&map[first / SNAPBAK_WORD_BITS]) ^ flip;

		word &= snapbak_bitmap_mask(first, end - first);
		if (word)
			return first - first % SNAPBAK_WORD_BITS + snapbak_lowest_bit(word);
		first += SNAPBAK_WORD_BITS - first % SNAPBAK_WORD_BITS;
	}
	return end;
}

/**
 * snapbak_bitmap_next_set() - find a pending block.
 * @map: the bitmap.
 * @first: where to begin.
 * @end: where to stop, exclusive.
 *
 * Context: any; does not sleep.
 * Return: the first pending block of [first, end), or @end.
 */
__u64 snapbak_bitmap_next_set(const __u64 *map, __u64 first, __u64 end)
{
	return next(map, first, end, 0);
}

/**
 * snapbak_bitmap_next_clear() - find a block that is not pending.
 * @map: the bitmap.
 * @first: where to begin.
 * @end: where to stop, exclusive.
 *
 * Context: any; does not sleep.
 * Return: the first block of [first, end) that is not pending, or @end.
 */
__u64 snapbak_bitmap_next_clear(const __u64 *map, __u64 first, __u64 end)
{
	return next(map, first, end, ~0ULL);
}
