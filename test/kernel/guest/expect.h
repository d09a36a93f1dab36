/* SPDX-License-Identifier: MIT */
/*
 * expect.h - answers that must be so, counted; every wrong one is printed.
 */
#ifndef GUEST_EXPECT_H
#define GUEST_EXPECT_H

/* Negative values are told as errno names too. */
void expect(const char *what, long got, long want);

/* Prints {"checks": N, "wrong": N}. Return: the exit status. */
int expect_end(void);

#endif /* GUEST_EXPECT_H */
