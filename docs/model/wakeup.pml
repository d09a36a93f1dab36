/* SPDX-License-Identifier: MIT */
/*
 * The three places where one side says something and then looks whether the
 * other said something, for spin: with store buffers, as processors have them,
 * so that a missing fence is found. One of them at a time, by -D:
 *
 *   LIBRARY_SLEEPS  library_asleep, the event ring and the state (-DKERNEL: poll())
 *   WRITE_HOLDS     driver_waiting, the bitmap, and the kick
 *   GATE            the write gate, and START which shuts it
 *
 * A lost wake-up is a process that waits at the end: an invalid end state. All
 * other names of #ifdef break one rule each, on purpose.
 */

/*
 * A processor's own store is seen by the others some time later, at the latest
 * when it fences or does a locked operation. One place is enough: a second
 * store waits for the first, and loads are from memory (nobody here loads what
 * it stored itself before a fence).
 */
typedef Buffer {
  bool unseen;
  byte value;
};

#define STORE(buffer, v) atomic { !buffer.unseen -> buffer.unseen = true; buffer.value = v }
#define FENCE(buffer) !buffer.unseen
#define FLUSH(buffer, memory) atomic { buffer.unseen -> memory = buffer.value; buffer.unseen = false; buffer.value = 0 }

hidden byte nobody_is_inside_when_armed;
#define CHECK(name, condition) name = (condition); assert(name)

#ifdef LIBRARY_SLEEPS

#define NR_EVENTS 2

byte asleep, head, tail, over; /* shared memory */
Buffer of_library;             /* of asleep */
Buffer of_head, of_over;       /* the driver's */
bool wake;                     /* engine: the eventfd; kernel: taken off the wait queue */
bool queued;                   /* kernel: on the wait queue */

#ifdef KERNEL
#define SIGNAL() if :: queued -> wake = true :: else fi
#else
#define SIGNAL() wake = true
#endif

/* WakeLibrary(), snapbak_wake_library(): after something was published, or the state changed. */
inline wake_library() {
#ifndef NO_FENCE_BEFORE_WAKE
  FENCE(of_head); FENCE(of_over);
#endif
  if
  :: asleep -> /* a locked exchange: takes the flag, and what was stored before it is seen */
       atomic {
         !of_head.unseen && !of_over.unseen;
         d_step {
           if
           :: asleep -> asleep = 0; SIGNAL()
           :: else
           fi
         }
       }
  :: else
  fi
}

active proctype Driver() {
  byte n;
#ifdef KERNEL
  wake_library(); /* ARMED: a state, but nothing to take */
#endif
  do
  :: n < NR_EVENTS -> n++; STORE(of_head, n); wake_library()
  :: else -> break
  od;
  STORE(of_over, 1);
  wake_library()
}

#ifdef KERNEL
#define NEWS (head != tail || over)
#endif

/* EventPump::Run() and Sleep(). */
active proctype Pump() {
  bool seen_over;
  do
  :: head != tail -> tail++
  :: head == tail && over -> break
  :: head == tail && !over ->
#ifndef NO_ASLEEP
       STORE(of_library, 1);
#endif
#ifndef NO_FENCE_BEFORE_SLEEP
       FENCE(of_library);
#endif
       if
#ifndef NO_LOOK_BEFORE_SLEEP
       :: head != tail || over
       :: head == tail && !over ->
#else
       :: true ->
#endif
#ifdef KERNEL
            /* poll(): on the queue, look; if it sleeps on, it looks again at every wake-up */
            queued = true;
            do
            :: NEWS -> break
            :: !NEWS ->
#ifndef NO_ASLEEP_AGAIN
                 STORE(of_library, 1);
                 FENCE(of_library);
#endif
                 if
                 :: NEWS -> break
                 :: !NEWS -> atomic { wake -> wake = false }
                 fi
            od;
            atomic { queued = false; wake = false }
#else
            atomic { wake -> wake = false } /* WaitEvent(): poll, read the eventfd */
#endif
       fi;
       STORE(of_library, 0)
  od;
  assert(tail == NR_EVENTS)
}

active proctype Memory() {
end:
  do
  :: FLUSH(of_library, asleep)
  :: FLUSH(of_head, head)
  :: FLUSH(of_over, over)
  od
}

#endif

#ifdef WRITE_HOLDS

byte waiting, safe; /* driver_waiting; what the write waits for: its bit is clear, or a slot is back */
Buffer of_write, of_copier;
bool locked;        /* hold_mutex_, hold_lock */
bool asleep, woken;

/* Capture::Hold(), snapbak_hold() */
active proctype Write() {
  bool worth;
  atomic { !locked -> locked = true }
#ifdef LOOK_BEFORE_ANNOUNCE
  worth = safe;
#endif
  STORE(of_write, 1);
#ifndef NO_FENCE_BEFORE_LOOK
  FENCE(of_write);
#endif
#ifndef LOOK_BEFORE_ANNOUNCE
#ifndef NO_LOOK_BEFORE_WAIT
  worth = safe;
#endif
#endif
  do
  :: worth -> break
  :: else -> /* waiting and giving up the lock are one step */
       atomic { FENCE(of_write); locked = false; asleep = true }
       atomic { woken && !locked -> locked = true; asleep = false; woken = false }
       worth = safe
  od;
  FENCE(of_write);
  locked = false
}

/* Sweep::Claim(), ReturnSlot(), TakeBatch(), and then KickIfWaiting() */
active proctype Copier() {
  STORE(of_copier, 1);
#ifndef NO_FENCE_BEFORE_KICK
  FENCE(of_copier);
#endif
  if
  :: waiting ->
#ifndef KICK_WITHOUT_LOCK
       /* orders us with a write between its look and its wait */
       atomic { !locked && !of_copier.unseen -> locked = true }
       locked = false;
#endif
       woken = woken || asleep
  :: else
  fi
}

active proctype Memory() {
end:
  do
  :: FLUSH(of_write, waiting)
  :: FLUSH(of_copier, safe)
  od
}

#endif

#ifdef GATE

#define WRITERS 2

byte inside, shut, armed;
Buffer of_shutter;
bool locked; /* mutex_; the kernel's wait queue */
bool asleep, woken;
byte unwatched; /* ghost: writes inside that saw nothing armed */

/* WriteGate::Leave(), snapbak_gate_leave(): the count is locked, or fenced; then look. */
inline leave() {
  inside--;
#ifndef NO_WAKE_AFTER_LEAVE
  if
  :: shut ->
#ifndef WAKE_WITHOUT_LOCK
       /* orders us with a shutter between its look and its wait */
       atomic { !locked -> locked = true }
       locked = false;
#endif
       woken = woken || asleep
  :: else
  fi
#endif
}

/* WriteGate::Enter(), snapbak_gate_enter(), and one write */
active [WRITERS] proctype Writer() {
  bool passed;
#ifdef LOOK_BEFORE_COUNT
  passed = !shut;
#endif
again:
  inside++; /* locked, or with a full fence after it */
#ifndef LOOK_BEFORE_COUNT
  passed = !shut;
#endif
  if
  :: passed
  :: else -> leave(); !shut; goto again
  fi;
  if
  :: d_step { !armed -> unwatched++ }
       d_step { unwatched--; CHECK(nobody_is_inside_when_armed, !armed) }
  :: armed
  fi;
  leave()
}

/* Engine::HandleStart() with WriteGate::Shut(); snapbak_start() */
active proctype Shutter() {
  atomic { !locked -> locked = true }
  STORE(of_shutter, 1);
#ifndef NO_FENCE_BEFORE_COUNTING
  FENCE(of_shutter);
#endif
  do
  :: inside == 0 -> break
  :: else -> /* waiting and giving up the lock are one step */
       atomic { FENCE(of_shutter); locked = false; asleep = true }
       atomic { woken && !locked -> locked = true; asleep = false; woken = false }
  od;
  atomic { CHECK(nobody_is_inside_when_armed, unwatched == 0); armed = true }
  FENCE(of_shutter);
  STORE(of_shutter, 0);
  FENCE(of_shutter);
  locked = false
}

active proctype Memory() {
end:
  do
  :: FLUSH(of_shutter, shut)
  od
}

#endif
