/* SPDX-License-Identifier: MIT */
/*
 * stamp.h - sectors that say which sector they are and how old.
 *
 * A stamp fills its whole sector, so that a torn, shifted or stale one cannot
 * pass for another. Generation 0 is a sector of zeroes.
 */
#ifndef GUEST_STAMP_H
#define GUEST_STAMP_H

#include "util.h"

#define STAMP_RUBBISH (-1)

/* Stamps @count sectors from device sector @first on with @generation, not 0. */
void stamp_fill(void *data, __u64 seed, __u64 first, __u64 count, __u32 generation);

/* The generation of the sector at @data: 0 for zeroes, STAMP_RUBBISH for no stamp of @seed and @sector. */
__s64 stamp_read(const void *data, __u64 seed, __u64 sector);

/* For a message: "zeroes", "generation 7 of sector 9 (seed 1)", or the first words. */
void stamp_describe(const void *data, char *text, size_t size);

#endif /* GUEST_STAMP_H */
