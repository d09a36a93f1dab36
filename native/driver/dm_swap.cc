// SPDX-License-Identifier: MIT
#include "dm_swap.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <mutex>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

namespace snapbak {

namespace {

int PinObject(dl_phdr_info* object, size_t, void*) {
  // The program itself (Node.js, 100 MB) is not on the way.
  if (object->dlpi_name == nullptr || object->dlpi_name[0] == '\0') return 0;
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = object->dlpi_phdr[i];
    if (part.p_type != PT_LOAD) continue;
    const uintptr_t start = object->dlpi_addr + part.p_vaddr;
    const uintptr_t aligned = start & ~(page - 1);
    (void)mlock(reinterpret_cast<void*>(aligned), part.p_memsz + (start - aligned));
  }
  return 0;
}

// While the device is suspended this thread must need nothing that lies on it:
// it may hold the root file system and the swap space. So the code that runs
// here stays in memory (for good: an munlock() could undo another's mlock()),
// memory is not made free by writing, and no signal cuts the request short.
class WithoutDisk {
 public:
  WithoutDisk() {
    static std::once_flag pinned;
    std::call_once(pinned, [] { dl_iterate_phdr(&PinObject, nullptr); });
    flusher_ = prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
    if (flusher_ == 0) (void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &signals_);
  }
  ~WithoutDisk() {
    pthread_sigmask(SIG_SETMASK, &signals_, nullptr);
    if (flusher_ == 0) (void)prctl(PR_SET_IO_FLUSHER, 0, 0, 0, 0);
  }
  WithoutDisk(const WithoutDisk&) = delete;
  WithoutDisk& operator=(const WithoutDisk&) = delete;

 private:
  int flusher_;
  sigset_t signals_;
};

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// Everything that the swap and its undoing need, made before the device stops.
class Swap {
 public:
  Swap(DeviceMapper* dm, const DmInfo& device, DmVisibility visibility)
      : dm_(dm),
        visibility_(visibility),
        load_(dm->library(), DM_DEVICE_RELOAD),
        load_previous_(dm->library(), DM_DEVICE_RELOAD),
        swap_(dm->library(), DM_DEVICE_RESUME),
        resume_(dm->library(), DM_DEVICE_RESUME),
        clear_(dm->library(), DM_DEVICE_CLEAR),
        look_(dm->library(), DM_DEVICE_INFO),
        device_(device) {}

  bool Prepare(const DmTable& next, const DmTable& previous) {
    for (DmTask* task : {&load_, &load_previous_, &swap_, &resume_, &clear_, &look_}) {
      if (!task->SetName(device_.name)) return false;
    }
    if (!load_.AddTable(next) || !load_previous_.AddTable(previous)) return false;
    for (DmTask* task : {&load_, &load_previous_}) {
      if (device_.read_only && !dm_->library()->task_set_ro(task->get())) return false;
    }
    // The kernel computes it anew with each table; what the administrator set is put back.
    for (DmTask* task : {&swap_, &resume_}) {
      if (!dm_->library()->task_set_read_ahead(task->get(), device_.read_ahead, 0)) return false;
    }
    return true;
  }

  void Run(DmOutcome* outcome) {
    int error = load_.Run();
    if (error != 0) return outcome->Fail("load", error);
    {
      const WithoutDisk guard;
      if (dm_->SetCookie(&swap_, visibility_)) {
        const uint64_t begin = Now();
        error = swap_.Run();
        outcome->stopped_ns = Now() - begin;
      } else {
        error = -ENOMEM;
      }
      if (error != 0) {
        outcome->Fail("swap", error);
        if (Suspended()) PutBack(outcome);
      }
    }
    dm_->WaitUdev();
    if (error == 0) return;
    // Some kernels keep the table that they could not swap in, some do not.
    outcome->FailUndo("clear", clear_.Run());
    outcome->suspended = Suspended();
  }

 private:
  bool Suspended() {
    dm_info info{};
    return look_.Run() == 0 && dm_->library()->task_get_info(look_.get(), &info) && info.suspended != 0;
  }

  // Whichever of the tables is live now.
  void PutBack(DmOutcome* outcome) {
    outcome->FailUndo("load", load_previous_.Run());
    (void)dm_->SetCookie(&resume_, visibility_);
    outcome->FailUndo("resume", resume_.Run());
  }

  DeviceMapper* const dm_;
  const DmVisibility visibility_;
  DmTask load_, load_previous_, swap_, resume_, clear_, look_;
  const DmInfo& device_;
};

}  // namespace

void SwapTable(DeviceMapper* dm, const DmInfo& device, const DmTable& next, const DmTable& previous,
               DmVisibility visibility, DmOutcome* outcome) {
  Swap swap(dm, device, visibility);
  if (!swap.Prepare(next, previous)) return outcome->Fail("load", -ENOMEM);
  swap.Run(outcome);
}

}  // namespace snapbak
