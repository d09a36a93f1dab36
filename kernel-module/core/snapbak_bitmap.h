/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_bitmap.h - the pending bitmap: who finds a bit set owns the block.
 *
 * Both sides clear bits with one atomic read-modify-write each; nobody sets
 * one after START. No function here sleeps, locks or allocates. Callers keep
 * block numbers below nr_blocks; the words beyond are never touched.
 */
#ifndef SNAPBAK_BITMAP_H
#define SNAPBAK_BITMAP_H

#include "snapbak_atomic.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SNAPBAK_WORD_BITS 64

/* Words that @nr_blocks bits need. */
static inline __u64 snapbak_bitmap_words(__u64 nr_blocks)
{
	return (nr_blocks + SNAPBAK_WORD_BITS - 1) / SNAPBAK_WORD_BITS;
}

/* The bits [@first, @first + @count) that lie in the word of @first. */
static inline __u64 snapbak_bitmap_mask(__u64 first, __u64 count)
{
	unsigned int shift = first % SNAPBAK_WORD_BITS;
	__u64 room = SNAPBAK_WORD_BITS - shift;
	__u64 low = count >= SNAPBAK_WORD_BITS ? ~0ULL : (1ULL << count) - 1;

	return (count >= room ? ~0ULL : low) << shift;
}

/* Is @block pending? Acquire: a clear bit shows what was done before it. */
static inline int snapbak_bitmap_test(const __u64 *map, __u64 block)
{
	__u64 word = snapbak_load_acquire(&map[block / SNAPBAK_WORD_BITS]);

	return (word >> (block % SNAPBAK_WORD_BITS)) & 1;
}

/* The driver's half of the claim: true if @block was pending and is now the caller's. */
static inline int snapbak_bitmap_test_and_clear(__u64 *map, __u64 block)
{
	__u64 bit = 1ULL << (block % SNAPBAK_WORD_BITS);

	return (snapbak_fetch_clear(&map[block / SNAPBAK_WORD_BITS], bit) & bit) != 0;
}

/*
 * The library's half of the claim. Call it after the blocks were read: takes
 * those of [@first, @first + @count) that are pending within one word, and
 * returns them as bits of that word. @count is cut at the word's end.
 */
static inline __u64 snapbak_bitmap_claim(__u64 *map, __u64 first, __u64 count)
{
	__u64 mask = snapbak_bitmap_mask(first, count);

	return snapbak_fetch_clear(&map[first / SNAPBAK_WORD_BITS], mask) & mask;
}

void snapbak_bitmap_set_range(__u64 *map, __u64 first, __u64 count);
__u64 snapbak_bitmap_count(const __u64 *map, __u64 first, __u64 count);
__u64 snapbak_bitmap_next_set(const __u64 *map, __u64 first, __u64 end);
__u64 snapbak_bitmap_next_clear(const __u64 *map, __u64 first, __u64 end);

#ifdef __cplusplus
}
#endif

#endif /* SNAPBAK_BITMAP_H */
