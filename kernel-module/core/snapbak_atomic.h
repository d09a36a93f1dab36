/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * snapbak_atomic.h - every memory order that the core relies on, by name.
 *
 * Used on words of shared memory that the other side changes at any time. In
 * the kernel these are the kernel's own primitives, elsewhere the compiler's
 * builtins; nothing else in the core knows where it runs.
 */
#ifndef SNAPBAK_ATOMIC_H
#define SNAPBAK_ATOMIC_H

#ifdef __KERNEL__

#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/types.h>
#include <asm/barrier.h>

#define snapbak_load_relaxed(p) READ_ONCE(*(p))
#define snapbak_store_relaxed(p, v) WRITE_ONCE(*(p), (v))
#define snapbak_load_acquire(p) smp_load_acquire(p)
#define snapbak_store_release(p, v) smp_store_release((p), (v))
#define snapbak_full_fence() smp_mb()

/* Clears @bits of *@p; returns the word as it was. Fully ordered. */
static inline __u64 snapbak_fetch_clear(__u64 *p, __u64 bits)
{
	return (__u64)atomic64_fetch_andnot((s64)bits, (atomic64_t *)p);
}

/* Sets @bits of *@p; returns the word as it was. Fully ordered. */
static inline __u64 snapbak_fetch_set(__u64 *p, __u64 bits)
{
	return (__u64)atomic64_fetch_or((s64)bits, (atomic64_t *)p);
}

/* Stores @v; returns what was there. Fully ordered. */
static inline __u32 snapbak_exchange(__u32 *p, __u32 v)
{
	return xchg(p, v);
}

static inline unsigned int snapbak_popcount(__u64 v)
{
	return hweight64(v);
}

static inline unsigned int snapbak_lowest_bit(__u64 v)
{
	return __ffs64(v);
}

/* 0 for 0. */
static inline unsigned int snapbak_bit_length(__u64 v)
{
	return fls64(v);
}

#else /* user space: C11 and C++ alike */

#include <linux/types.h>

#define snapbak_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define snapbak_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define snapbak_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define snapbak_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define snapbak_full_fence() snapbak_full_fence_impl()

/*
 * ThreadSanitizer does not model fences; a sequentially consistent
 * read-modify-write of a dummy word orders the same and it understands it.
 */
static inline void snapbak_full_fence_impl(void)
{
#if defined(__SANITIZE_THREAD__) || defined(SNAPBAK_TSAN)
	static __u32 dummy;

	__atomic_fetch_add(&dummy, 1, __ATOMIC_SEQ_CST);
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline __u64 snapbak_fetch_clear(__u64 *p, __u64 bits)
{
	return __atomic_fetch_and(p, ~bits, __ATOMIC_SEQ_CST);
}

static inline __u64 snapbak_fetch_set(__u64 *p, __u64 bits)
{
	return __atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST);
}

static inline __u32 snapbak_exchange(__u32 *p, __u32 v)
{
	return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}

static inline unsigned int snapbak_popcount(__u64 v)
{
	return (unsigned int)__builtin_popcountll(v);
}

/* @v must not be 0. */
static inline unsigned int snapbak_lowest_bit(__u64 v)
{
	return (unsigned int)__builtin_ctzll(v);
}

/* 0 for 0. */
static inline unsigned int snapbak_bit_length(__u64 v)
{
	return v ? 64 - (unsigned int)__builtin_clzll(v) : 0;
}

#endif /* __KERNEL__ */

#endif /* SNAPBAK_ATOMIC_H */
