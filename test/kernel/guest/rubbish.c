// SPDX-License-Identifier: MIT
#include "rubbish.h"

const char *const rubbish_names[RUBBISH_KINDS] = {
	"anywhere", "bitmap", "flags", "slotTwice", "freeOverflow", "tailAhead",
};

static __u64 draw_word(struct random *random)
{
	switch (random_below(random, 5)) {
	case 0:
		return 0;
	case 1:
		return ~0ULL;
	case 2:
		return random_below(random, 300);
	default:
		return random_next(random);
	}
}

static void store_word(struct session *session, __u64 at, __u64 value)
{
	__atomic_store_n((__u64 *)((char *)session->shm + at / 8 * 8), value, __ATOMIC_RELAXED);
}

/* Mostly where words mean much: a byte of the bitmap or of a ring is one of many. */
static __u64 draw_place(struct random *random, __u64 slots_off)
{
	const __u64 hints = offsetof(struct snapbak_shm, hint_head);

	switch (random_below(random, 4)) {
	case 0:
		return random_below(random, slots_off);
	case 1:
		return hints + random_below(random, offsetof(struct snapbak_shm, reserved3) - hints);
	default:
		return random_below(random, 640);
	}
}

/* Offsets and sizes are those of SETUP: the header may say anything by now. */
void rubbish_write(struct session *session, enum rubbish_kind kind, struct random *random)
{
	char *base = (char *)session->shm;
	__u64 slots_off = (__u64)((char *)session->slots - base);
	__u64 bitmap_off = (__u64)((char *)session->bitmap - base);
	__u64 events_off = (__u64)((char *)session->events.entries - base);
	__u32 slot = (__u32)random_below(random, 20);

	switch (kind) {
	case RUBBISH_BITMAP:
		store_word(session, bitmap_off + random_below(random, events_off - bitmap_off), draw_word(random));
		break;
	case RUBBISH_FLAGS:
		store_word(session,
			   random_below(random, 2) ?
				   random_below(random, offsetof(struct snapbak_shm, event_head)) :
				   offsetof(struct snapbak_shm, throttle_begin) + random_below(random, 384),
			   draw_word(random));
		break;
	case RUBBISH_SLOT_TWICE:
		snapbak_ring_put_slot(&session->free, 0, slot);
		snapbak_ring_put_slot(&session->free, 1, slot);
		snapbak_ring_publish(&session->free, 2);
		break;
	case RUBBISH_FREE_OVERFLOW:
		snapbak_ring_publish(&session->free, session->free.nr + (__u32)random_below(random, 3));
		break;
	case RUBBISH_TAIL_AHEAD:
		snapbak_ring_release(&session->events, 1 + (__u32)(random_below(random, 2) ? random_below(random, 4) :
											     random_next(random)));
		break;
	default:
		store_word(session, draw_place(random, slots_off), draw_word(random));
	}
}
