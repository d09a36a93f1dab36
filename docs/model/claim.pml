/* SPDX-License-Identifier: MIT */
/*
 * The claim protocol, for spin: who clears a block's pending bit, what that is
 * worth, and that no write is held for ever. README.md beside this file says
 * what is modelled, what is not, and which function each step is.
 *
 * Two drivers, chosen by -D: the engine (default) and the kernel module
 * (-DKERNEL). Sizes: WRITERS, BLOCKS (1 or 2), SLOTS, EVENTS, COPIERS, DRAIN_TO.
 * What may happen: WIDE_WRITES (writes over all blocks), SWEEP_PAUSED (nothing
 * is swept but what writes want), EARLY_FINISH (FINISH before all is copied),
 * ENDS (abort, or death), STALLS (the library stands still; the watchdog is on).
 * All other names of #ifdef break one rule each, on purpose: see README.md.
 */
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef BLOCKS
#define BLOCKS 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef EVENTS
#define EVENTS 2 /* entries of the event ring */
#endif
#ifndef COPIERS
#define COPIERS 1
#endif
#ifndef DRAIN_TO
#define DRAIN_TO 0
#endif
#ifndef SHOW
#define SHOW 0
#endif

#define NONE 255

mtype = { CAPTURED, WANTED };

/* --- what is stored where. A content is a version: how many writes the block has seen. */
byte origin[BLOCKS];
byte slot_data[SLOTS];
byte image[BLOCKS] = NONE;    /* the target */
byte at_start[BLOCKS] = NONE; /* ghost: the origin at the start instant */
byte acked[BLOCKS];           /* ghost: writes to the block that were acknowledged */

/* --- shared memory */
bool pending[BLOCKS] = true; /* the bitmap; set before START */
chan events = [EVENTS] of { mtype, byte, byte };
chan free_ring = [SLOTS] of { byte };

/* --- the driver */
byte inside; /* writes inside the gate */
bool shut;
bool armed;
bool broken, finished;
byte inflight[BLOCKS]; /* the in-flight table: a bucket's count */
bool is_free[SLOTS] = true;
byte reserved;         /* places in the event ring, taken and not published */
bool held[WRITERS];    /* the queue of held writes; their number is driver_waiting */
byte turn[WRITERS];    /* their order: who was held first; 0: never */
byte held_for[WRITERS]; /* the block that a held write waits for */
bool wanted_out[BLOCKS];
bool woken[WRITERS];   /* engine: notified; kernel: taken off the queue */
byte granted;          /* engine: free slots that are for writes which are held no more */
#ifdef KERNEL
byte own[WRITERS];     /* io->pending: a write's captures under way */
byte reading[SLOTS] = NONE; /* the block that is read into a slot */
byte reader_of[SLOTS]; /* for which write */
#endif

/* --- the library */
bool started; /* START was answered */
bool dead; /* it does nothing any more: killed, or (STALLS) it stands still */
chan captured = [SLOTS] of { byte, byte };
bool want[BLOCKS];
bool kept[SLOTS]; /* drained, and not given back yet */
bool draining;
byte slots_used;
byte settled; /* blocks that are in the target */
bool manifest; /* says: complete */

byte capturing;      /* ghost: blocks claimed by writes whose event is not published */
bool owned[BLOCKS];  /* ghost: claimed by somebody */

/*
 * The invariants of the design, and what they rest upon. Each is asserted by
 * its name, so that a failure says which one it was. "hidden": no part of a state.
 */
hidden byte inv1_image_is_the_start_instant;
hidden byte inv2_acknowledged_writes_are_on_the_origin;
hidden byte inv3_no_good_manifest_of_a_broken_session;
hidden byte one_owner_a_block;
hidden byte finish_after_every_capture;
hidden byte slot_came_back_once;
hidden byte captured_is_not_pending;
#define CHECK(name, condition) name = (condition); assert(name)

/* Not vacuous: -DSHOW=n makes the check fail where the thing happens. */
#define A_WRITE_IS_CAPTURED 1
#define A_SLOT_IS_MISSING 2
#define A_WRITE_IS_HELD 3
#define A_HELD_WRITE_GETS_A_SLOT 4
#define A_HELD_WRITE_NEEDS_NO_SLOT 5
#define A_SWEEP_LOSES_A_BLOCK 6
#define A_WRITER_LOSES_ITS_CLAIM 7
#define A_WRITE_MEETS_A_CAPTURE 8
#define A_BREAK_RELEASES_A_WRITE 9
#define A_BACKUP_IS_COMPLETE 10
#define A_LIBRARY_DIES_WHILE_WRITES_ARE_HELD 11
#define SHOWS(what) assert(SHOW != what)

hidden byte i, k, n; /* scratch, within one d_step */

#if WRITERS == 2
#define DRIVER_WAITING (held[0] || held[1])
#else
#define DRIVER_WAITING (held[0] || held[1] || held[2])
#endif
#if BLOCKS == 1
#define ANY(bits) (bits[0])
#else
#define ANY(bits) (bits[0] || bits[1])
#endif

/* Clears a pending bit with one atomic operation: true in `won` if it was set. In a d_step. */
inline test_and_clear(block, won) {
  won = pending[block];
  pending[block] = false;
  if
  :: won -> CHECK(one_owner_a_block, !owned[block]); owned[block] = true
  :: else
  fi
}

/* ------------------------------------------------------------------- slots */

/* snapbak_slots_available(): slots that could be taken now, in n. In a d_step, under the slots' lock. */
inline available() {
  do
  :: len(free_ring) > 0 ->
       free_ring ? k;
       CHECK(slot_came_back_once, !is_free[k]);
       is_free[k] = true
  :: else -> break
  od;
  k = EVENTS - len(events) - reserved; /* a place in the event ring goes with each */
  n = 0;
  for (i : 0 .. SLOTS - 1) {
    n = n + is_free[i]
  }
  n = (k < n -> k : n);
  i = 0; k = 0
}

/* snapbak_slots_take() for one slot. No place in the event ring counts as no slot. */
inline take(slot) {
  d_step {
    available();
    if
    :: n > 0 ->
         slot = 0;
         do
         :: is_free[slot] -> break
         :: else -> slot++
         od;
         is_free[slot] = false;
         reserved++
    :: else -> slot = NONE; SHOWS(A_SLOT_IS_MISSING)
    fi;
    n = 0
  }
}

inline put_back(slot) {
  d_step { is_free[slot] = true; reserved--; slot = NONE }
}

/* snapbak_slots_try_publish(), once a block. In a d_step, under the hold lock. */
inline publish_wanted(block) {
  if
  :: !wanted_out[block] && EVENTS - len(events) > reserved ->
       events ! WANTED, block, 0;
       wanted_out[block] = true
  :: else /* out already, or no room: the library kicks when it has taken events, and we try again */
  fi
}

/* -------------------------------------------------- held writes, and kicks */

/*
 * What is done under the hold lock is one step here: all that others may see
 * of it between is that a write is held, and that is a step of its own.
 */

/* In a d_step: off the queue. */
inline leave_queue(x) {
  held[x] = false;
  wanted_out[held_for[x]] = false;
  for (i : 0 .. WRITERS - 1) {
    if
    :: held[i] && held_for[i] == held_for[x] -> wanted_out[held_for[x]] = true
    :: else
    fi
  }
  i = 0
}

#ifdef KERNEL

/* In a d_step: takes those off that have nothing to wait for, the oldest first, as many as there are slots. */
inline kick_held() {
  available(); /* n: slots to give */
  do
  :: true ->
       k = NONE;
       for (i : 0 .. WRITERS - 1) {
         if
         :: held[i] && (broken || !pending[held_for[i]] || n > 0) && (k == NONE || turn[i] < turn[k]) -> k = i
         :: else
         fi
       }
       if
       :: k == NONE -> break
       :: else ->
            if
            :: pending[held_for[k]] && !broken -> n--
            :: else
            fi;
            leave_queue(k);
            woken[k] = true
       fi
  od;
  for (k : 0 .. WRITERS - 1) {
    if
    :: held[k] -> publish_wanted(held_for[k])
    :: else
    fi
  }
  i = 0; k = 0; n = 0
}

#else

/* In a d_step: kicked_.notify_all(). Each looks for itself. */
inline kick_held() {
  for (i : 0 .. WRITERS - 1) {
    woken[i] = held[i]
  }
  i = 0
}

#endif

/* Capture::Break(), snapbak_break(): the session ends, held writes go on. */
inline break_session() {
  d_step {
    if
    :: !broken && !finished ->
         broken = true;
#ifndef NO_RELEASE_ON_BREAK
         if
         :: DRIVER_WAITING -> SHOWS(A_BREAK_RELEASES_A_WRITE)
         :: else
         fi;
         kick_held()
#endif
    :: else
    fi
  }
}

/* Capture::Hold(), snapbak_hold(): announce, full fence, look again, wait. In a d_step each. */
inline announce() {
  if
  :: turn[w] == 0 ->
       for (i : 0 .. WRITERS - 1) {
         turn[w] = (turn[i] >= turn[w] && i != w && turn[i] > 0 -> turn[i] + 1 : turn[w])
       }
       turn[w] = (turn[w] == 0 -> 1 : turn[w]);
       i = 0
  :: else
  fi;
  held[w] = true;
  held_for[w] = at
}

/* WorthALook(): the bit, and the slots; in the engine free slots are for those who are held longest. */
inline look() {
  worth = broken || !pending[at];
  if
  :: !worth ->
       available();
#ifndef KERNEL
       k = granted;
       for (i : 0 .. WRITERS - 1) {
         k = k + (held[i] && turn[i] < turn[w])
       }
#endif
       worth = n > k;
       i = 0; k = 0; n = 0
  :: else
  fi
}

/* The write is kept back; its bit stays set. */
inline look_and_ask() {
  look();
  if
  :: !worth -> publish_wanted(at); SHOWS(A_WRITE_IS_HELD)
  :: else
  fi
}

inline hold() {
#ifdef LOOK_BEFORE_ANNOUNCE
  d_step { look_and_ask() }
  d_step { announce() }
#else
  d_step { announce() }
#ifndef NO_LOOK_BEFORE_WAIT
  d_step { look_and_ask() }
#endif
#endif
  do
  :: worth -> d_step { leave_queue(w); k = 0 } break
  :: else ->
       if
       :: woken[w]
#if defined(STALLS) && !defined(NO_WATCHDOG)
       :: !woken[w] && !broken -> break_session(); woken[w] /* its time is over, or the heartbeat stands still */
#endif
       fi;
#ifdef KERNEL
       break
#else
       d_step { woken[w] = false; look_and_ask() }
#endif
  od;
  skip; /* spin lets no loop end right before a d_step */
  d_step {
    if
    :: !broken && !pending[at] -> SHOWS(A_HELD_WRITE_NEEDS_NO_SLOT)
    :: else
    fi;
#ifndef KERNEL
    grant = !broken && pending[at]; /* it goes for a slot, unless it needs none any more */
    granted = granted + grant;
#endif
    worth = false; woken[w] = false; held_for[w] = 0
  }
}

#ifndef KERNEL
/* UseGrant(): a write that was held has tried for its slot; what it did not need is the next one's. */
inline use_grant() {
  if
  :: grant -> d_step { grant = false; granted--; kick_held() }
  :: else
  fi
}
#endif

/* ------------------------------------------------------------------ writes */

/* The driver's half of the claim: true in `mine` if the block is ours now. */
inline claim(block) {
#ifdef CLEAR_BEFORE_TABLE
  d_step { test_and_clear(block, mine); capturing = capturing + mine }
  inflight[block]++;
#else
  inflight[block]++; /* before the bit: for those who look without the bucket's lock */
#ifdef CLAIM_IN_TWO_STEPS
  mine = pending[block];
  if
  :: mine -> d_step { pending[block] = true; test_and_clear(block, mine); capturing++ }
  :: else
  fi;
#else
  d_step { test_and_clear(block, mine); capturing = capturing + mine }
#endif
#endif
  if
  :: !mine -> d_step { inflight[block]--; SHOWS(A_WRITER_LOSES_ITS_CLAIM) }
  :: else
  fi
}

/* The old content into the slot, then the event, and only then out of the table. */
inline read_and_publish(block, slot) {
#ifdef RELEASE_BEFORE_CAPTURE
  inflight[block]--;
#endif
  slot_data[slot] = origin[block];
#if defined(LEAVE_BEFORE_PUBLISH) && !defined(RELEASE_BEFORE_CAPTURE)
  inflight[block]--;
#endif
  d_step { events ! CAPTURED, block, slot; reserved--; capturing--; SHOWS(A_WRITE_IS_CAPTURED) }
#if !defined(LEAVE_BEFORE_PUBLISH) && !defined(RELEASE_BEFORE_CAPTURE)
  inflight[block]--
#endif
}

/* One write of the blocks [first, end): Engine::Write(), or map() and the worker. */
proctype Writer(byte w) {
  byte end = BLOCKS, at, slot = NONE;
  bool mine, worth, grant;

#ifndef WIDE_WRITES
  if
  :: end = 1
#if BLOCKS > 1
  :: end = 2
#endif
  fi;
#endif
#ifdef WIDE_WRITES
#define FIRST 0
#else
#define FIRST (end - 1)
#endif

  /* the gate: its handshake is in wakeup.pml */
  if
  :: d_step { !shut && armed -> inside++; at = FIRST }
  :: d_step { !shut && !armed -> inside++; at = end }
  fi;

  if
  :: at < end ->
       do
       :: broken || at == end -> break
       :: else ->
            if
            :: !pending[at] -> at++
            :: else ->
                 take(slot);
#ifndef KERNEL
                 if
                 :: grant && slot != NONE -> SHOWS(A_HELD_WRITE_GETS_A_SLOT)
                 :: else
                 fi;
                 use_grant();
#endif
                 if
                 :: slot == NONE -> hold()
                 :: else ->
                      claim(at);
                      if
                      :: !mine -> put_back(slot)
                      :: else ->
#ifdef KERNEL
                           d_step { own[w]++; reader_of[slot] = w; reading[slot] = at }
#else
                           read_and_publish(at, slot);
#endif
                           d_step { mine = false; slot = NONE }
                      fi;
                      at++
                 fi
            fi
       od;
#ifdef KERNEL
       own[w] == 0; /* the last read to end takes it on */
#else
       use_grant();
#endif
       /* blocks that other writes claimed; we own none any more */
#ifndef PASS_IN_FLIGHT
       at = FIRST;
       do
       :: at == end -> break
#ifndef KERNEL
       :: broken -> break
#endif
       :: at < end && inflight[at] > 0 -> SHOWS(A_WRITE_MEETS_A_CAPTURE); inflight[at] == 0
       :: at < end && inflight[at] == 0 -> at++
       od
#endif
  :: else
  fi;

  /* on to the lower device, block by block, and acknowledged with the last one */
  at = FIRST;
  do
  :: at + 1 == end -> break
  :: else -> d_step { origin[at]++; acked[at]++; at++ }
  od;
  atomic {
    at + 1 == end;
    d_step {
      acked[at]++;
#ifdef DROP_ON_BREAK
      if
      :: broken
      :: else -> origin[at]++
      fi;
#else
      origin[at]++;
#endif
      at = 0; end = 0; turn[w] = 0;
      inside--;
      for (i : 0 .. BLOCKS - 1) {
        CHECK(inv2_acknowledged_writes_are_on_the_origin, origin[i] == acked[i])
      }
      i = 0
    }
  }
}

#ifdef KERNEL
/* end_capture(): a read into a slot has completed. */
proctype Completion(byte slot) {
  byte block, w;

end:
  do
  :: d_step { reading[slot] != NONE -> block = reading[slot]; w = reader_of[slot]; reading[slot] = NONE; reader_of[slot] = 0 }
     /* from the event on the library may give the slot back, and another write take it */
     read_and_publish(block, slot);
     d_step { own[w]--; w = 0; block = 0 }
  od
}
#endif

/* ----------------------------------------------------- the control requests */

/* START; FINISH when every block is in the target; then the manifest. */
proctype Session() {
  bool refused;

  shut = true;
  d_step { /* the instant */
#ifndef ARM_WITHOUT_DRAIN
    inside == 0 ->
#endif
    armed = !broken;
    started = armed;
    shut = false;
    for (i : 0 .. BLOCKS - 1) {
      at_start[i] = origin[i]
    }
    i = 0
  }

finish:
#ifdef SWEEP_PAUSED
end_unfinished: /* nothing was swept but what writes wanted */
#endif
  if
  :: settled == BLOCKS && !broken && !dead
#ifdef EARLY_FINISH
  :: settled < BLOCKS && started && !ANY(pending) && !broken && !dead
#endif
  :: broken || dead -> goto stop
  fi;
  /* -EPIPE, or -EBUSY while a block is pending */
  refused = broken || ANY(pending);
#ifdef KERNEL
#ifndef FINISH_DURING_CAPTURE
  d_step { /* or being captured */
    for (i : 0 .. BLOCKS - 1) {
      refused = refused || inflight[i] > 0
    }
    i = 0
  }
#endif
#else
  /* off the write path, with the gate drained: no write is held, so it does drain */
  if
  :: !refused ->
#ifndef FINISH_DURING_CAPTURE
       shut = true;
       inside == 0;
#endif
       d_step { armed = false; shut = false }
  :: else
  fi;
#endif
  d_step {
    if
#ifdef FINISH_IGNORES_BREAK
    :: !refused ->
#else
    :: !refused && !broken ->
#endif
         CHECK(finish_after_every_capture, capturing == 0);
         finished = true;
         armed = false;
#if defined(KERNEL) && !defined(NO_RELEASE_ON_FINISH)
         kick_held() /* a write that is held for a block which is safe by now */
#endif
    :: else
    fi
  }
  /* the library, if it lives and the driver said yes: the manifest, once all is in the target */
  if
  :: finished && !dead && settled == BLOCKS ->
       d_step {
         manifest = true;
         CHECK(inv3_no_good_manifest_of_a_broken_session, !broken);
         for (i : 0 .. BLOCKS - 1) {
           CHECK(inv1_image_is_the_start_instant, image[i] == at_start[i])
         }
         i = 0;
         SHOWS(A_BACKUP_IS_COMPLETE)
       }
  :: dead || broken
  :: !finished && !broken && !dead -> refused = false; goto finish
  fi;
stop:
  refused = false
}

#if defined(ENDS) || defined(STALLS)
/* What may come at any time: ABORT, or the end of the library. Or neither. */
proctype End() {
  if
  :: true -> goto stop
#ifdef ENDS
  :: true
#endif
  :: dead = true
  fi;
  if
  :: dead && DRIVER_WAITING -> SHOWS(A_LIBRARY_DIES_WHILE_WRITES_ARE_HELD)
  :: else
  fi;
#if defined(STALLS) || defined(NO_RELEASE_ON_DEATH)
  if
  :: dead -> goto stop /* nobody closes anything: nobody notices but the watchdog */
  :: else
  fi;
#endif
  /* HandleAbort(), HandleClose(), the kernel's owner_dies() */
  break_session();
stop:
  skip
}
#endif

/* ----------------------------------------------------------------- the library */

/* CopyState::KickIfWaiting(): after the full fence. In a d_step. */
inline kick_if_waiting() {
  if
  :: DRIVER_WAITING -> kick_held()
  :: else
  fi
}

/* EventPump::TakeBatch(). How it sleeps and is woken is wakeup.pml. */
proctype Pump() {
  byte block, slot;
  {
end:
    do
    :: d_step {
         events ? CAPTURED, block, slot ->
         CHECK(captured_is_not_pending, !pending[block]);
         captured ! block, slot;
         slots_used++;
         block = 0; slot = 0
       }
       d_step { kick_if_waiting() } /* it may wait for room in the ring */
    :: d_step {
         events ? WANTED, block, slot ->
         want[block] = true;
         block = 0; slot = 0
       }
       d_step { kick_if_waiting() }
    od
  } unless { dead || broken }
}

/* Bytes for the target. In a d_step. */
inline write_image(block, content) {
  image[block] = content;
  settled++
}

/* One atomic operation for the run: snapbak_bitmap_claim(). */
inline sweep_claim() {
  d_step {
    for (i : first .. last) {
      test_and_clear(i, won[i])
    }
    i = 0
  }
}

/* Sweep::Copy() of the blocks [first, last]: read, then clear, then keep what was still pending. */
inline sweep() {
#ifdef CLEAR_BEFORE_READ
  sweep_claim();
#endif
  data[first] = origin[first];
  if
  :: first < last -> data[last] = origin[last]
  :: else
  fi;
#ifndef CLEAR_BEFORE_READ
  sweep_claim();
#endif
  /* before anything slow: a held write of one of these blocks may go on now */
#ifndef NO_KICK_AFTER_CLEAR
  d_step { kick_if_waiting() }
#endif
  d_step {
    for (at : first .. last) {
      if
      :: won[at] -> write_image(at, data[at])
      :: else -> SHOWS(A_SWEEP_LOSES_A_BLOCK);
#ifdef SWEEP_KEEPS_LOST_BYTES
           image[at] = data[at]
#endif
      fi;
      won[at] = false; data[at] = 0
    }
    at = 0; first = 0; last = 0
  }
}

/* CopyState::ReturnSlot(): at once, or in a group once the container was full. In a d_step. */
inline return_slot() {
  slots_used--;
  kept[slot] = true;
  draining = draining || DRIVER_WAITING;
  if
  :: draining && slots_used > DRAIN_TO
  :: else ->
       draining = false;
       for (i : 0 .. SLOTS - 1) {
         if
         :: kept[i] -> free_ring ! i; kept[i] = false
         :: else
         fi
       }
       i = 0
  fi
}

/* Copier::Run(): wanted blocks first; between draining and sweeping any order. */
proctype Copier() {
  byte first, last, at, block, slot;
  byte data[BLOCKS];
  bool won[BLOCKS];
  {
end:
    do
    :: d_step {
         started && ANY(want) ->
         do
         :: want[first] -> break
         :: else -> first++
         od;
         want[first] = false;
         last = first
       }
       if
       :: pending[first] -> sweep()
       :: else -> d_step { first = 0; last = 0 } /* somebody was faster */
       fi
    :: d_step { !ANY(want) && nempty(captured) -> captured ? block, slot }
#ifdef SLOT_BACK_BEFORE_DRAINED
       d_step { at = slot; return_slot() }
       d_step { kick_if_waiting() }
       d_step { write_image(block, slot_data[at]); block = 0; slot = 0; at = 0 }
#else
       d_step { write_image(block, slot_data[slot]); slot_data[slot] = 0 }
       d_step { return_slot(); block = 0; slot = 0 }
       d_step { kick_if_waiting() }
#endif
#ifndef SWEEP_PAUSED
    :: d_step { started && !ANY(want) && pending[0] -> first = 0; last = 0 } sweep()
#if BLOCKS > 1
    :: d_step { started && !ANY(want) && pending[1] -> first = 1; last = 1 } sweep()
    :: d_step { started && !ANY(want) && ANY(pending) -> first = 0; last = 1 } sweep()
#endif
#endif
    od
  } unless { dead || broken }
}

init {
  atomic {
    byte w;
    for (w : 0 .. WRITERS - 1) {
      run Writer(w)
    }
#ifdef KERNEL
    for (w : 0 .. SLOTS - 1) {
      run Completion(w)
    }
#endif
    run Session();
#if defined(ENDS) || defined(STALLS)
    run End();
#endif
    run Pump();
    for (w : 1 .. COPIERS) {
      run Copier()
    }
#if BLOCKS > 1
    origin[1] = 100; acked[1] = 100; /* no content of one block is one of the other */
#endif
    w = 0
  }
}
