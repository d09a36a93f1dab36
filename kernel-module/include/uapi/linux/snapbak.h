/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * snapbak.h - the contract between a Snapbak driver and the Snapbak library.
 *
 * A driver sits on the write path of an origin. The library copies. This
 * header is the only thing that they share: the control requests, the layout
 * of the memory that both map, and the meaning of each word in it. Three
 * drivers speak it: the kernel module (requests are ioctls on
 * /dev/snapbak/control), the nbdkit plugin (the same structures over a Unix
 * socket) and the engine inside the addon (direct calls).
 *
 * Conventions:
 *  - All fields are of fixed width, in native byte order, naturally aligned,
 *    with explicit padding. 64-bit hosts only.
 *  - Fields named "reserved" must be zero in requests; a driver that finds
 *    anything else answers -EINVAL. Drivers zero them in replies.
 *  - Every request structure starts with its own size, so that it can grow.
 *  - Offsets and lengths are bytes; a block is 1 << block_shift bytes.
 *  - A driver checks whatever it reads from shared memory before it uses it.
 *    A library that writes rubbish there spoils its own backup, nothing else.
 *
 * A session belongs to one control descriptor. When the last reference to it
 * is closed before FINISH succeeded, the driver breaks the session, lets every
 * held write go, and the origin goes on.
 */
#ifndef _UAPI_LINUX_SNAPBAK_H
#define _UAPI_LINUX_SNAPBAK_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SNAPBAK_ABI_VERSION 1
#define SNAPBAK_MAGIC 0x314b414250414e53ULL /* "SNAPBAK1", little endian */

#define SNAPBAK_MIN_BLOCK_SHIFT 12 /* 4 KiB */
#define SNAPBAK_MAX_BLOCK_SHIFT 20 /* 1 MiB */
#define SNAPBAK_MAX_SLOTS (1u << 20)
#define SNAPBAK_MAX_ORIGINS 64
#define SNAPBAK_PAGE 4096 /* alignment of every area of the shared memory */
#define SNAPBAK_MIN_HEAT_SHIFT 16 /* 64 KiB: the smallest region of the heat area */
#define SNAPBAK_MAX_HEAT 65536 /* regions */

/* ------------------------------------------------------------------------
 * States of a session. A state only ever moves down this list.
 */
enum snapbak_state {
	SNAPBAK_STATE_NEW = 0, /* opened; no shared memory yet */
	SNAPBAK_STATE_READY = 1, /* set up; the library fills the bitmap */
	SNAPBAK_STATE_ARMED = 2, /* the point in time is fixed; writes are watched */
	SNAPBAK_STATE_FINISHED = 3, /* every listed block was copied */
	SNAPBAK_STATE_BROKEN = 4, /* cannot be completed; see snapbak_reason */
};

/* Why a session broke. */
enum snapbak_reason {
	SNAPBAK_REASON_NONE = 0,
	SNAPBAK_REASON_ABORTED = 1, /* the library asked for it */
	SNAPBAK_REASON_CLOSED = 2, /* the control descriptor was closed (or its owner died) */
	SNAPBAK_REASON_HOLD_TIMEOUT = 3, /* a write was held longer than the policy allows */
	SNAPBAK_REASON_PROTOCOL = 4, /* the library broke the rules of the shared memory */
	SNAPBAK_REASON_ORIGIN_GONE = 5, /* the origin was closed or removed */
	SNAPBAK_REASON_STALLED = 6, /* the library lives, but drains nothing */
};

/* ------------------------------------------------------------------------
 * Shared memory. Areas in this order, each aligned to SNAPBAK_PAGE:
 * header | pending bitmap | event ring | free-slot ring | heat, if asked for | slots
 */

/*
 * Index of a counter in snapbak_shm.counters. Written by the driver alone,
 * read by anybody, each monotonic from SETUP on unless it says "now".
 *
 * None counts lost events, for there can be none: a capture takes its place in
 * the event ring together with its slot, before it clears a bit. Where there is
 * no place there is no slot either, and the write is held.
 */
enum snapbak_counter {
	SNAPBAK_C_CAPTURED = 0, /* blocks captured into a slot */
	SNAPBAK_C_CAPTURE_NS = 1, /* time that captures took, a block each, summed, ns */
	SNAPBAK_C_INVALID = 2, /* blocks that could not be read for capture */
	SNAPBAK_C_HELD = 3, /* writes that were held for want of a slot */
	SNAPBAK_C_HELD_NOW = 4, /* now: writes held at this moment */
	SNAPBAK_C_HELD_NS = 5, /* time that writes were held, summed, ns */
	SNAPBAK_C_WANTED = 6, /* wanted events published */
	SNAPBAK_C_DELAYED = 7, /* writes delayed by the throttle */
	SNAPBAK_C_DELAYED_NS = 8, /* time that writes were delayed, summed, ns */
	SNAPBAK_C_WAITED = 9, /* writes that waited for another's capture */
	SNAPBAK_C_DISCARDS_DROPPED = 10, /* discards dropped in part or in whole */
	SNAPBAK_C_EAGAIN = 11, /* no-wait writes that were refused */
	SNAPBAK_C_SLOTS_USED = 12, /* now: slots not with the driver */
	SNAPBAK_C_PROTOCOL_ERRORS = 13, /* rubbish found in shared memory */
	SNAPBAK_C_HELD_MAX_NS = 14, /* the longest that one write was held, ns */
	SNAPBAK_C_DELAYED_NOW = 15, /* now: writes delayed at this moment */
	SNAPBAK_C_CAPTURE_MAX_NS = 16, /* the longest that one capture took, ns */
	SNAPBAK_C_DELAYED_MAX_NS = 17, /* the longest that one write was delayed, ns */
	/*
	 * Requests of applications that arrived and ended while armed: reads,
	 * writes, zeroes, discards. The time includes what the session made
	 * them wait. 0 with the kernel driver: the block layer has the same in
	 * the origin's /sys/dev/block/MAJOR:MINOR/stat.
	 */
	SNAPBAK_C_IO = 18,
	SNAPBAK_C_IO_NS = 19, /* time that these took, summed, ns */
	SNAPBAK_C_HINTS = 20, /* hints written to the hint ring */
	SNAPBAK_NR_COUNTERS = 32,
};

/*
 * Index of a histogram in snapbak_shm.histograms: how many times were how long.
 * Written by the driver alone, monotonic from SETUP on. The sum of the times and
 * the longest of them are counters.
 *
 * Bucket 0 counts times up to 1 microsecond, bucket i those above 2^(i - 1) and
 * up to 2^i microseconds, and the last one all above 2^30 microseconds.
 */
enum snapbak_histogram {
	SNAPBAK_H_CAPTURE = 0, /* a block, captured or invalid: from its claim to its event */
	SNAPBAK_H_DELAY = 1, /* a write that the throttle delayed */
	SNAPBAK_H_HOLD = 2, /* a write that was held; one that is held again counts again */
	SNAPBAK_NR_HISTOGRAMS = 3,
};

#define SNAPBAK_HISTOGRAM_BUCKETS 32

/*
 * One position of a ring, alone in its cache line. Free-running: it counts
 * entries since SETUP and wraps at 2^32; the place in the ring is
 * position & (entries - 1).
 */
struct snapbak_ring_position {
	__u32 value;
	__u32 pad[15];
};

/* Bytes of the origin. */
struct snapbak_extent {
	__u64 offset;
	__u64 length;
};

#define SNAPBAK_NR_HINTS 64

/*
 * The header. Each group says who writes it; the other side only reads.
 * Ring rule: the producer writes the entry, then releases head; the consumer
 * acquires head, reads the entry, then releases tail.
 */
struct snapbak_shm {
	/* 0: fixed by the driver at SETUP */
	__u64 magic;
	__u32 abi_version;
	__u32 driver; /* enum snapbak_driver */
	__u64 map_size; /* bytes of the whole mapping */
	__u64 origin_size; /* bytes; need not be a multiple of anything */
	__u64 nr_blocks; /* the last block may be shorter */
	__u32 block_shift;
	__u32 nr_slots;
	__u32 nr_events; /* entries of the event ring, a power of two */
	__u32 nr_free; /* entries of the free ring, a power of two >= nr_slots */
	__u64 bitmap_off;
	__u64 event_off;
	__u64 free_off;
	__u64 slots_off;
	__u64 heat_off; /* 0: there is no heat area */
	__u32 nr_heat; /* its regions */
	__u32 heat_shift; /* a region is 1 << heat_shift bytes; the last one may be shorter */
	__u64 reserved0[3];

	/* 128: state, written by the driver */
	__u32 state; /* enum snapbak_state; stored last, with release */
	__u32 reason; /* enum snapbak_reason */
	__s32 error; /* negative errno behind the reason, or 0 */
	__u32 pad0;
	__u64 start_realtime_ns; /* CLOCK_REALTIME at the start instant */
	__u64 start_monotonic_ns; /* CLOCK_MONOTONIC at the start instant */
	__u64 arm_ns; /* how long writes were stopped for it */
	__u64 freeze_ns; /* from freezing to thawed, file system there or not; 0: no freeze */
	__u32 heat_now; /* the heat area is filled, as of this tick; stored last, with release */
	__u32 pad4;
	__u64 reserved1[1];

	/* 192: sleep flags; see "Wake-ups" below */
	__u32 library_asleep; /* set by the library, taken by the driver */
	__u32 pad1[15];
	__u32 driver_waiting; /* written by the driver: writes that a kick could help */
	__u32 pad2[15];

	/* 320: ring positions */
	struct snapbak_ring_position event_head; /* driver */
	struct snapbak_ring_position event_tail; /* library */
	struct snapbak_ring_position free_head; /* library */
	struct snapbak_ring_position free_tail; /* driver */

	/* 576: throttle, written by the library, clamped by the driver on use */
	__u32 throttle_begin; /* slots in use at which delays begin; 0: no throttle */
	__u32 throttle_full; /* slots in use that count as full */
	__u64 throttle_rate; /* measured drain rate, bytes a second */
	__u32 throttle_max_us; /* ceiling of one delay, microseconds */
	__u32 pad3;
	__u64 heartbeat; /* the library adds one whenever it has made progress */
	__u64 reserved2[4];

	/* 640: counters, written by the driver */
	__u64 counters[SNAPBAK_NR_COUNTERS];

	/* 896: histograms, written by the driver */
	__u64 histograms[SNAPBAK_NR_HISTOGRAMS][SNAPBAK_HISTOGRAM_BUCKETS];

	/* 1664: the hint ring, written by the driver; see "Hints" below */
	struct snapbak_ring_position hint_head; /* driver */
	struct snapbak_ring_position hint_tail; /* library; for poll() alone */
	struct snapbak_extent hints[SNAPBAK_NR_HINTS];

	/* 2816 */
	__u64 reserved3[160];
};

/* What an event says. */
enum snapbak_event_type {
	SNAPBAK_EVENT_CAPTURED = 1, /* slot holds the block as of the start instant */
	SNAPBAK_EVENT_WANTED = 2, /* a write waits for this block and no slot is free */
	SNAPBAK_EVENT_INVALID = 3, /* the block could not be read; error says why */
};

/* Driver to library. At most one CAPTURED or INVALID a block and session. */
struct snapbak_event {
	__u64 block;
	__u32 slot; /* CAPTURED only */
	__u16 type; /* enum snapbak_event_type */
	__s16 error; /* INVALID only: negative errno */
};

/*
 * The bitmap: __u64 words, bit (b & 63) of word (b >> 6) is block b. Set =
 * pending. The library sets bits while the session is READY; from ARMED on,
 * both sides only clear them, each with one atomic read-modify-write.
 *
 * The free ring: __u32 slot numbers, library to driver. At SETUP every slot is
 * with the driver; the library returns a slot once it has copied it.
 *
 * Hints: extents that other processes asked for by HINT, lying inside the
 * origin. The driver writes the next entry and releases hint_head, whether the
 * library has read the one that was there or not: later hints win, and the
 * driver depends on nothing that the library says. (A ring that refuses when
 * it is full would need the library's word for what is free, and would turn
 * the newest hints away.) The library reads the entries from its own position
 * up to hint_head, fences, and looks at hint_head again: what lies
 * SNAPBAK_NR_HINTS or more behind it then was overwritten meanwhile. It tells
 * its position in hint_tail, from which poll() learns that there is news, and
 * nothing else.
 *
 * Heat: a __u32 for each region of the origin, equal in size, a power of two
 * from 64 KiB on, at most SNAPBAK_MAX_HEAT of them: the tick of the last write
 * to it, 0 for none since the origin is with this driver. Discards are no
 * writes. A tick is the driver's own, an eighth to a quarter of a second; heat_now
 * minus a region's is its age, modulo 2^32. The driver fills the area once, at
 * START, when the point in time is fixed, and never reads it.
 *
 * Wake-ups. Neither side wakes the other while it is awake:
 *  - The library, before it sleeps: library_asleep = 1, full fence, look at
 *    the event ring, the hints and the state again, then poll(). The driver, after it
 *    published or changed the state: full fence; if library_asleep, exchange
 *    it with 0 and, if that was 1, wake. The kernel driver's descriptor is
 *    readable while the event ring holds events or hint_tail is not hint_head,
 *    and for ever once the session is over; a poll() that finds nothing of that
 *    sets library_asleep again.
 *  - The driver, before a write waits: driver_waiting + 1, full fence, look at
 *    the bit and at the free ring again, then wait. The library, after it
 *    cleared bits, returned slots or took events: full fence; if
 *    driver_waiting is not 0, KICK.
 */

/* ------------------------------------------------------------------------
 * Control requests.
 */

enum snapbak_driver {
	SNAPBAK_DRIVER_KERNEL = 1,
	SNAPBAK_DRIVER_USER = 2,
	SNAPBAK_DRIVER_EMBEDDED = 3,
};

/* Features, as bits of snapbak_query.features. */
#define SNAPBAK_F_DISCARD (1ULL << 0) /* discards reach the lower device */
#define SNAPBAK_F_WRITE_ZEROES (1ULL << 1)
#define SNAPBAK_F_HOLD_POLICY (1ULL << 2)
#define SNAPBAK_F_MULTI_START (1ULL << 3) /* START takes several sessions */
#define SNAPBAK_F_THROTTLE (1ULL << 4) /* the throttle fields are honoured */
#define SNAPBAK_F_WATCHDOG (1ULL << 5) /* stall_timeout_ms is honoured */
#define SNAPBAK_F_HISTOGRAMS (1ULL << 6) /* the histograms are kept */
#define SNAPBAK_F_HINTS (1ULL << 7) /* HINT is known */
#define SNAPBAK_F_STOP_WRITES (1ULL << 8) /* STOP_WRITES is known */
#define SNAPBAK_F_HEAT (1ULL << 9) /* SNAPBAK_SETUP_HEAT is known */

/* QUERY: what the driver is. Allowed at any time. */
struct snapbak_query {
	__u32 size;
	__u32 abi_version; /* out */
	__u32 driver; /* out: enum snapbak_driver */
	__u32 max_slots; /* out */
	__u32 min_block_shift; /* out */
	__u32 max_block_shift; /* out */
	__u64 features; /* out: SNAPBAK_F_ */
	__u8 version[32]; /* out: the driver's own, NUL-terminated */
	__u64 reserved[8];
};

/*
 * OPEN: begin a session on an origin. -EBUSY if it has one already, -ENODEV
 * if there is no such origin. The kernel driver finds the origin by dev; a
 * user or embedded driver has one only and wants 0.
 */
struct snapbak_open {
	__u32 size;
	__u32 flags; /* none yet: 0 */
	__u64 dev; /* in: device number of the origin (kernel driver) */
	__u64 origin_size; /* out, bytes */
	__u32 sector_size; /* out: smallest unit for direct I/O on the lower device */
	__u32 origin_flags; /* out: SNAPBAK_O_ */
	__u64 lower_dev; /* out: device number of the lower device, 0: a file */
	__u64 lower_inode; /* out: its inode where it is a file, else 0 */
	__u64 lower_fsdev; /* out: st_dev of the file system that holds it, else 0 */
	__u8 origin_id[64]; /* out: a name for people and manifests, NUL-terminated */
	__u64 lower_offset; /* out: where on the lower device the origin begins */
	__u64 reserved[7];
};

#define SNAPBAK_O_BLOCK_DEVICE (1u << 0) /* the lower device is a block device */

enum snapbak_on_full {
	SNAPBAK_ON_FULL_BREAK = 0, /* a hold past its time breaks the session */
	SNAPBAK_ON_FULL_HOLD = 1, /* keep holding while the session's owner lives */
};

/*
 * SETUP: geometry and policy; the shared memory exists afterwards. The kernel
 * driver's is then mapped from the control descriptor at offset 0, by the
 * process that made the request: when it dies while writes are held, they go on
 * at once, whoever else has the descriptor. A user driver sends a descriptor of
 * the memory.
 *
 * The watchdog: while writes are held and heartbeat stands still for
 * stall_timeout_ms, the library is as good as dead, and the session breaks
 * (SNAPBAK_REASON_STALLED), whatever on_full says.
 */
struct snapbak_setup {
	__u32 size;
	__u32 block_shift;
	__u32 nr_slots; /* 1 to max_slots */
	__u32 on_full; /* enum snapbak_on_full */
	__u64 hold_timeout_ms; /* 1 to 86,400,000 */
	__u64 map_size; /* out */
	__u64 stall_timeout_ms; /* 0: no watchdog; else as hold_timeout_ms */
	__u32 flags; /* SNAPBAK_SETUP_; anything else is -EINVAL */
	__u32 pad0; /* 0 */
	__u64 reserved[6];
};

#define SNAPBAK_SETUP_HEAT (1u << 0) /* the shared memory has a heat area */

/*
 * START: fix the point in time. Freezes the file systems on every origin named
 * (kernel driver), stops new writes, waits for those in flight, arms, lets
 * writes go on, thaws. All or nothing: after an error nothing has changed, and
 * failed_dev names the origin at fault where there is one. -ETIMEDOUT if the
 * writes in flight did not end in time. The structure is written back after an
 * error too.
 *
 * File systems are frozen in the order given, this session's first. An origin
 * that stands on another's file system comes before it, for freezing it writes
 * there; in the other order START ends with -ETIMEDOUT, too. No file system
 * stays frozen for longer than timeout_ms while another one is being frozen.
 */
struct snapbak_start {
	__u32 size;
	__u32 nr_others; /* further sessions to start at the same instant */
	__u64 others; /* in: user pointer to __s32 control descriptors, in their order */
	__u64 timeout_ms; /* 1 to 600,000 */
	__u64 start_realtime_ns; /* out */
	__u64 arm_ns; /* out: how long writes were stopped */
	__u64 freeze_ns; /* out: how long file systems were frozen, freezing included */
	__u64 failed_dev; /* out, with an error: device number of the origin at fault, or 0 */
	__u64 reserved[4];
};

/* FINISH: all copied. -EBUSY while a block is pending or being captured. */
struct snapbak_finish {
	__u32 size;
	__u32 flags; /* 0 */
	__u64 reserved[4];
};

/* ABORT: give the session up; it is BROKEN afterwards, held writes go on. */
struct snapbak_abort {
	__u32 size;
	__u32 reason; /* SNAPBAK_REASON_ABORTED or _STALLED */
	__u64 reserved[4];
};

/* STATUS: of the origin's session, whoever owns it. */
struct snapbak_status {
	__u32 size;
	__u32 state; /* out; SNAPBAK_STATE_NEW with nr_slots 0: no session */
	__u32 reason; /* out */
	__s32 error; /* out */
	__u64 dev; /* in, as for OPEN */
	__u64 origin_size; /* out */
	__u64 start_realtime_ns; /* out */
	__u64 arm_ns; /* out */
	__u64 nr_blocks; /* out */
	__u64 pending_blocks; /* out */
	__u32 block_shift; /* out */
	__u32 nr_slots; /* out */
	__u8 origin_id[64]; /* out */
	__u64 counters[SNAPBAK_NR_COUNTERS]; /* out */
	__u64 freeze_ns; /* out */
	__u64 reserved[7];
};

/*
 * HINT: the library that backs the origin up should copy this extent next.
 * From any control descriptor, of whatever process the driver obeys; no session
 * of its own is needed. Advice: the library does with it what it likes, and the
 * oldest hint gives way when there are too many. -ENODATA if no session is
 * armed; -EINVAL for what does not lie inside the origin, or is empty.
 */
struct snapbak_hint {
	__u32 size;
	__u32 flags; /* 0 */
	__u64 dev; /* in, as for OPEN */
	struct snapbak_extent extent; /* in */
	__u64 reserved[4];
};

/*
 * STOP_WRITES: the first half of a START, for one instant with origins of other
 * drivers. Stops new writes and waits for those in flight; writes then stand
 * still until START, which arms and lets them go on, or until the session ends,
 * or until timeout_ms after they were stopped, when the driver lets them go on
 * by itself. A START that comes later than that says -ETIMEDOUT: nothing has
 * changed, and writes may be stopped again. Without a limit a library that hangs
 * would stop the application.
 *
 * Flushes nothing, and neither does the START behind it: while several origins
 * are stopped one after the other, those that stand still already must not wait
 * for the flush of another. The kernel driver has no need of it (-ENOTTY): its
 * START takes several origins, and is made while those of other drivers stand
 * still.
 */
struct snapbak_stop_writes {
	__u32 size;
	__u32 flags; /* 0 */
	__u64 timeout_ms; /* 1 to 600,000; for stopping and standing still together */
	__u64 reserved[4];
};

#define SNAPBAK_IOC_TYPE 0xD5
#define SNAPBAK_IOC_QUERY _IOWR(SNAPBAK_IOC_TYPE, 0x01, struct snapbak_query)
#define SNAPBAK_IOC_OPEN _IOWR(SNAPBAK_IOC_TYPE, 0x02, struct snapbak_open)
#define SNAPBAK_IOC_SETUP _IOWR(SNAPBAK_IOC_TYPE, 0x03, struct snapbak_setup)
#define SNAPBAK_IOC_START _IOWR(SNAPBAK_IOC_TYPE, 0x04, struct snapbak_start)
#define SNAPBAK_IOC_KICK _IO(SNAPBAK_IOC_TYPE, 0x05)
#define SNAPBAK_IOC_FINISH _IOWR(SNAPBAK_IOC_TYPE, 0x06, struct snapbak_finish)
#define SNAPBAK_IOC_ABORT _IOWR(SNAPBAK_IOC_TYPE, 0x07, struct snapbak_abort)
#define SNAPBAK_IOC_STATUS _IOWR(SNAPBAK_IOC_TYPE, 0x08, struct snapbak_status)
#define SNAPBAK_IOC_HINT _IOWR(SNAPBAK_IOC_TYPE, 0x09, struct snapbak_hint)
#define SNAPBAK_IOC_STOP_WRITES _IOWR(SNAPBAK_IOC_TYPE, 0x0a, struct snapbak_stop_writes)

/* ------------------------------------------------------------------------
 * Sizes, asserted wherever the header is compiled.
 */
#ifdef __cplusplus
#define SNAPBAK_ASSERT(cond, what) static_assert(cond, what)
#else
#define SNAPBAK_ASSERT(cond, what) _Static_assert(cond, what)
#endif

SNAPBAK_ASSERT(sizeof(struct snapbak_shm) == SNAPBAK_PAGE, "snapbak_shm is one page");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, state) == 128, "state");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, heat_off) == 88, "heat");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, library_asleep) == 192, "sleep flags");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, event_head) == 320, "ring positions");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, throttle_begin) == 576, "throttle");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, counters) == 640, "counters");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, histograms) == 896, "histograms");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, hint_head) == 1664, "histograms' end");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, hints) == 1792, "hints");
SNAPBAK_ASSERT(__builtin_offsetof(struct snapbak_shm, reserved3) == 2816, "hints' end");
SNAPBAK_ASSERT(sizeof(struct snapbak_extent) == 16, "snapbak_extent");
SNAPBAK_ASSERT(sizeof(struct snapbak_event) == 16, "snapbak_event");
SNAPBAK_ASSERT(sizeof(struct snapbak_query) == 128, "snapbak_query");
SNAPBAK_ASSERT(sizeof(struct snapbak_open) == 184, "snapbak_open");
SNAPBAK_ASSERT(sizeof(struct snapbak_setup) == 96, "snapbak_setup");
SNAPBAK_ASSERT(sizeof(struct snapbak_start) == 88, "snapbak_start");
SNAPBAK_ASSERT(sizeof(struct snapbak_finish) == 40, "snapbak_finish");
SNAPBAK_ASSERT(sizeof(struct snapbak_abort) == 40, "snapbak_abort");
SNAPBAK_ASSERT(sizeof(struct snapbak_status) == 456, "snapbak_status");
SNAPBAK_ASSERT(sizeof(struct snapbak_hint) == 64, "snapbak_hint");
SNAPBAK_ASSERT(sizeof(struct snapbak_stop_writes) == 48, "snapbak_stop_writes");

#endif /* _UAPI_LINUX_SNAPBAK_H */
