// SPDX-License-Identifier: MIT
// A library gone mad: rubbish in the header, the bitmap and both rings, while
// an application writes through the engine. Input: a byte of settings, then
// steps of eight bytes. With bit 0 of the settings a second thread spoils the
// memory while the writes run, else one step comes after the other. Nothing may
// crash or hang, and the origin holds what was written to it.
#include <errno.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>

#include "fuzz-image.h"
#include "native/driver/shared_memory.h"

using snapbak::Engine;
using snapbak::FuzzImage;
using snapbak::SharedMemory;
using snapbak::UniqueFd;

namespace {

constexpr uint64_t kOwner = 1;
constexpr uint32_t kLongestDelayUs = 100;

struct Step {
  uint8_t kind;
  uint8_t byte;
  uint16_t length;
  uint32_t where;
};
static_assert(sizeof(Step) == 8, "steps of eight bytes");

bool Spoils(const Step& step) { return step.kind % 12 < 6 || step.kind % 12 > 9; }

// Delays are real time: what the library may ask for, but shorter.
void ShortenDelays(snapbak_shm* header) {
  const uint32_t asked = snapbak_load_relaxed(&header->throttle_max_us);
  snapbak_store_relaxed(&header->throttle_max_us, std::min(asked, kLongestDelayUs));
}

void Spoil(const Step& step, const SharedMemory& memory, Engine* engine, snapbak_ring* events,
           snapbak_ring* free_slots) {
  uint8_t* base = reinterpret_cast<uint8_t*>(memory.header());
  const snapbak_shm& geometry = memory.geometry();
  switch (step.kind % 12) {
    case 0:  // anywhere
      base[step.where % memory.size()] = step.byte;
      break;
    case 1:  // a word of the header
      memcpy(base + step.where % 160 * 4, &step.length, sizeof(step.length));
      break;
    case 2:  // a word of the bitmap
      memory.bitmap()[step.where % snapbak_bitmap_words(geometry.nr_blocks)] =
          step.byte * 0x0101010101010101u;
      break;
    case 3: {  // a slot comes back, perhaps one that is not ours, perhaps twice
      const int64_t room = snapbak_ring_room(free_slots);
      if (room > 0) {
        snapbak_ring_put_slot(free_slots, 0, step.byte < 128 ? step.where % geometry.nr_slots : step.where);
        snapbak_ring_publish(free_slots, 1);
      }
      break;
    }
    case 4:  // events are taken, perhaps more than there are
      snapbak_ring_release(events, step.byte < 128 && snapbak_ring_ready(events) > 0 ? 1 : step.length);
      break;
    case 5:
      engine->Kick();
      break;
    case 10:  // a word of the hint ring
      memcpy(base + offsetof(snapbak_shm, hint_head) + step.where % 288 * 4, &step.length,
             sizeof(step.length));
      break;
    case 11: {  // a hint of somebody
      snapbak_hint hint{};
      hint.size = sizeof(hint);
      hint.extent = {step.where % (FuzzImage::kSize + 10), step.length};
      const int ret = engine->HandleHint(&hint);
      MUST(ret == 0 || ret == -EINVAL || ret == -ENODATA);
      break;
    }
  }
  ShortenDelays(memory.header());
}

void Use(const Step& step, FuzzImage* image) {
  const uint64_t offset = step.where % (FuzzImage::kSize + 10);
  switch (step.kind % 12) {
    case 6:
    case 7:
      image->Write(offset, step.length, step.byte);
      break;
    case 8:
      image->WriteZeroes(offset, step.length, (step.byte & 1) != 0);
      break;
    case 9:
      image->Discard(offset, step.length);
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > 2048) return 0;
  static FuzzImage image;
  image.Reset();
  Engine* engine = image.engine();
  const uint8_t settings = data[0];

  snapbak_open open{};
  open.size = sizeof(open);
  UniqueFd lower, memory_fd, event_fd;
  MUST(engine->HandleOpen(kOwner, &open, &lower) == 0);
  snapbak_setup setup{};
  setup.size = sizeof(setup);
  setup.block_shift = SNAPBAK_MIN_BLOCK_SHIFT;
  setup.nr_slots = 1 + (settings >> 5);
  setup.on_full = SNAPBAK_ON_FULL_BREAK;
  setup.hold_timeout_ms = 1;
  setup.flags = (settings & 4) != 0 ? SNAPBAK_SETUP_HEAT : 0;
  MUST(engine->HandleSetup(kOwner, &setup, &memory_fd, &event_fd) == 0);
  SharedMemory memory;
  MUST(SharedMemory::Adopt(std::move(memory_fd), &memory) == 0);
  if ((settings & 2) != 0) snapbak_bitmap_set_range(memory.bitmap(), 0, memory.geometry().nr_blocks);
  snapbak_start start{};
  start.size = sizeof(start);
  start.timeout_ms = 1000;
  MUST(engine->HandleStart(kOwner, &start) == 0);

  std::vector<Step> steps((size - 1) / sizeof(Step));
  if (!steps.empty()) memcpy(steps.data(), data + 1, steps.size() * sizeof(Step));
  snapbak_ring events = memory.EventRing();
  snapbak_ring free_slots = memory.FreeRing();
  if ((settings & 1) != 0) {
    std::atomic<bool> done{false};
    std::thread mad([&] {
      while (!done.load()) {
        for (const Step& step : steps) {
          if (Spoils(step)) Spoil(step, memory, engine, &events, &free_slots);
        }
        std::this_thread::yield();
      }
    });
    for (const Step& step : steps) {
      if (!Spoils(step)) Use(step, &image);
    }
    done.store(true);
    mad.join();
  } else {
    for (const Step& step : steps) {
      if (Spoils(step)) {
        Spoil(step, memory, engine, &events, &free_slots);
      } else {
        Use(step, &image);
      }
    }
  }

  snapbak_status status{};
  status.size = sizeof(status);
  MUST(engine->HandleStatus(&status) == 0);
  snapbak_finish finish{};
  finish.size = sizeof(finish);
  const int ret = engine->HandleFinish(kOwner, &finish);
  MUST(ret == 0 || ret == -EBUSY || ret == -EPIPE);
  engine->HandleClose(kOwner);
  image.Check();
  return 0;
}
