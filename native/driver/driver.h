// SPDX-License-Identifier: MIT
// The contract's requests as the library makes them, whoever serves them: the
// engine in this process, the nbdkit plugin behind a socket, the kernel.
// One Driver object is one control descriptor: at most one session.
//
// Every method returns 0 or a negative errno. Requests may block (START waits
// for writes in flight); call them from one thread at a time. Kick() and
// WaitEvent() may run beside them.
#pragma once

#include <memory>

#include "shared_memory.h"
#include "unique_fd.h"

namespace snapbak {

class Driver {
 public:
  virtual ~Driver() = default;

  virtual int Query(snapbak_query* query) = 0;

  // Opens the session. `lower` becomes a read-only descriptor of the lower
  // device (O_DIRECT where that is a block device). -EBUSY: the origin has a
  // session already.
  virtual int Open(snapbak_open* open, UniqueFd* lower) = 0;

  // Geometry and policy. `memory` becomes this side's mapping.
  virtual int Setup(snapbak_setup* setup, SharedMemory* memory) = 0;

  virtual int Start(snapbak_start* start) = 0;
  // The first half of a START: writes stand still until the other half comes.
  // -ENOTTY: a driver that does not know it.
  virtual int StopWrites(snapbak_stop_writes* stop) = 0;
  // A descriptor that START of another session of this driver may name in
  // `others`; -1: it takes none.
  virtual int StartDescriptor() const { return -1; }
  virtual int Finish(snapbak_finish* finish) = 0;
  virtual int Abort(snapbak_abort* abort) = 0;
  virtual int Status(snapbak_status* status) = 0;
  // To the origin's session, whoever owns it: these bytes next. -ENODATA: no
  // session is armed; -ENOTTY: an older driver.
  virtual int Hint(snapbak_hint* hint) = 0;

  // Held writes look again at bitmap and free ring. Never blocks.
  virtual void Kick() = 0;

  // Sleeps until the driver wakes the library. 0: woken (a driver may wake for
  // as long as events wait, and for ever once the session is over); -ETIMEDOUT;
  // -ECANCELED: `cancel_fd` is readable; -ECONNRESET: the driver is gone, and
  // the session with it. timeout_ms < 0: no limit.
  virtual int WaitEvent(int cancel_fd, int timeout_ms) = 0;
};

}  // namespace snapbak
