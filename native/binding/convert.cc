// SPDX-License-Identifier: MIT
#include "convert.h"

#include <algorithm>
#include <iterator>

namespace snapbak {

namespace {

// Milliseconds since the epoch, as Date takes them.
Napi::Value Milliseconds(Napi::Env env, uint64_t ns) {
  return Napi::Number::New(env, static_cast<double>(ns) / 1e6);
}

std::string Name(const __u8* bytes, size_t size) {
  const auto* chars = reinterpret_cast<const char*>(bytes);
  return std::string(chars, strnlen(chars, size));
}

}  // namespace

const char* StateName(uint32_t state) {
  static constexpr const char* kNames[] = {"new", "ready", "armed", "finished", "broken"};
  return state < std::size(kNames) ? kNames[state] : "broken";
}

const char* ReasonName(uint32_t reason) {
  static constexpr const char* kNames[] = {"none",     "aborted",     "closed", "hold-timeout",
                                           "protocol", "origin-gone", "stalled"};
  return reason < std::size(kNames) ? kNames[reason] : "protocol";
}

const char* DriverName(uint32_t driver) {
  static constexpr const char* kNames[] = {"unknown", "kernel", "user", "embedded"};
  return driver < std::size(kNames) ? kNames[driver] : "unknown";
}

Napi::Object CountersObject(Napi::Env env, const uint64_t* counters) {
  static constexpr struct {
    const char* name;
    snapbak_counter index;
  } kFields[] = {
      {"captured", SNAPBAK_C_CAPTURED},
      {"captureNs", SNAPBAK_C_CAPTURE_NS},
      {"invalid", SNAPBAK_C_INVALID},
      {"held", SNAPBAK_C_HELD},
      {"heldNow", SNAPBAK_C_HELD_NOW},
      {"heldNs", SNAPBAK_C_HELD_NS},
      {"heldMaxNs", SNAPBAK_C_HELD_MAX_NS},
      {"wanted", SNAPBAK_C_WANTED},
      {"delayed", SNAPBAK_C_DELAYED},
      {"delayedNs", SNAPBAK_C_DELAYED_NS},
      {"waited", SNAPBAK_C_WAITED},
      {"discardsDropped", SNAPBAK_C_DISCARDS_DROPPED},
      {"eagain", SNAPBAK_C_EAGAIN},
      {"slotsUsed", SNAPBAK_C_SLOTS_USED},
      {"protocolErrors", SNAPBAK_C_PROTOCOL_ERRORS},
      {"delayedNow", SNAPBAK_C_DELAYED_NOW},
      {"captureMaxNs", SNAPBAK_C_CAPTURE_MAX_NS},
      {"delayedMaxNs", SNAPBAK_C_DELAYED_MAX_NS},
      {"io", SNAPBAK_C_IO},
      {"ioNs", SNAPBAK_C_IO_NS},
      {"hints", SNAPBAK_C_HINTS},
  };
  Napi::Object object = Napi::Object::New(env);
  for (const auto& field : kFields) object.Set(field.name, Num(env, counters[field.index]));
  return object;
}

Napi::Object HeatObject(Napi::Env env, const HeatPicture& heat) {
  auto ticks = Napi::Uint32Array::New(env, heat.ticks.size());
  std::copy(heat.ticks.begin(), heat.ticks.end(), ticks.Data());
  Napi::Object object = Napi::Object::New(env);
  object.Set("regionSize", Num(env, heat.region_size));
  object.Set("now", Napi::Number::New(env, heat.now));
  object.Set("ticks", ticks);
  return object;
}

Napi::Object HistogramsObject(Napi::Env env, const CopyStats& stats) {
  static constexpr struct {
    const char* name;
    snapbak_histogram index;
  } kFields[] = {{"capture", SNAPBAK_H_CAPTURE}, {"delay", SNAPBAK_H_DELAY}, {"hold", SNAPBAK_H_HOLD}};
  Napi::Object object = Napi::Object::New(env);
  // views of one buffer: a poll asks many times a second, and a call of Node-API for each bucket adds up
  const auto buffer =
      Napi::ArrayBuffer::New(env, std::size(kFields) * SNAPBAK_HISTOGRAM_BUCKETS * sizeof(double));
  size_t offset = 0;
  for (const auto& field : kFields) {
    auto buckets = Napi::Float64Array::New(env, SNAPBAK_HISTOGRAM_BUCKETS, buffer, offset);
    std::copy(std::begin(stats.histograms[field.index]), std::end(stats.histograms[field.index]),
              buckets.Data());
    object.Set(field.name, buckets);
    offset += buckets.ByteLength();
  }
  return object;
}

Napi::Object StatsObject(Napi::Env env, const CopyStats& stats) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("listedBlocks", Num(env, stats.listed_blocks));
  object.Set("doneBlocks", Num(env, stats.done_blocks));
  object.Set("invalidBlocks", Num(env, stats.invalid_blocks));
  object.Set("safeBlocks", Num(env, stats.safe_blocks));
  object.Set("sweptBlocks", Num(env, stats.swept_blocks));
  object.Set("capturedBlocks", Num(env, stats.captured_blocks));
  object.Set("wantedBlocks", Num(env, stats.wanted_blocks));
  object.Set("zeroBlocks", Num(env, stats.zero_blocks));
  object.Set("droppedBytes", Num(env, stats.dropped_bytes));
  object.Set("readBytes", Num(env, stats.read_bytes));
  object.Set("writtenBytes", Num(env, stats.written_bytes));
  object.Set("spilledBlocks", Num(env, stats.spilled_blocks));
  object.Set("queuedWorkBytes", Num(env, stats.queued_work_bytes));
  object.Set("slotsTotal", Num(env, stats.slots_total));
  object.Set("slotsUsed", Num(env, stats.slots_used));
  object.Set("tier2Total", Num(env, stats.tier2_total));
  object.Set("tier2Used", Num(env, stats.tier2_used));
  Napi::Array tiers = Napi::Array::New(env, stats.tiers.size());
  for (uint32_t i = 0; i < tiers.Length(); i++) {
    Napi::Object tier = Napi::Object::New(env);
    tier.Set("total", Num(env, stats.tiers[i].total));
    tier.Set("used", Num(env, stats.tiers[i].used));
    tier.Set("lost", Napi::Boolean::New(env, stats.tiers[i].lost));
    tiers.Set(i, tier);
  }
  object.Set("tiers", tiers);
  object.Set("state", StateName(stats.state));
  object.Set("reason", ReasonName(stats.reason));
  object.Set("counters", CountersObject(env, stats.counters));
  object.Set("histograms", HistogramsObject(env, stats));
  object.Set("startTime", Milliseconds(env, stats.start_realtime_ns));
  object.Set("armNs", Num(env, stats.arm_ns));
  object.Set("freezeNs", Num(env, stats.freeze_ns));
  object.Set("bufferBytes", Num(env, stats.buffer_bytes));
  object.Set("memoryLocked", Napi::Boolean::New(env, stats.memory_locked));
  return object;
}

Napi::Object StatusObject(Napi::Env env, const snapbak_status& status) {
  uint64_t counters[SNAPBAK_NR_COUNTERS];
  for (size_t i = 0; i < SNAPBAK_NR_COUNTERS; ++i) counters[i] = status.counters[i];
  Napi::Object object = Napi::Object::New(env);
  object.Set("state", StateName(status.state));
  object.Set("reason", ReasonName(status.reason));
  object.Set("errno", Napi::Number::New(env, status.error));
  object.Set("id", Name(status.origin_id, sizeof status.origin_id));
  object.Set("size", Num(env, status.origin_size));
  object.Set("blockSize", Num(env, status.block_shift == 0 ? 0 : 1ull << (status.block_shift & 63)));
  object.Set("slots", Num(env, status.nr_slots));
  object.Set("blocks", Num(env, status.nr_blocks));
  object.Set("pendingBlocks", Num(env, status.pending_blocks));
  object.Set("startTime", Milliseconds(env, status.start_realtime_ns));
  object.Set("armNs", Num(env, status.arm_ns));
  object.Set("freezeNs", Num(env, status.freeze_ns));
  object.Set("counters", CountersObject(env, counters));
  return object;
}

Napi::Object InfoObject(Napi::Env env, const snapbak_query& query, const snapbak_open& open) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("size", Num(env, open.origin_size));
  object.Set("sectorSize", Num(env, open.sector_size));
  object.Set("isBlockDevice", Napi::Boolean::New(env, (open.origin_flags & SNAPBAK_O_BLOCK_DEVICE) != 0));
  object.Set("id", Name(open.origin_id, sizeof open.origin_id));
  object.Set("dev", Num(env, open.dev));
  object.Set("lowerDev", Num(env, open.lower_dev));
  object.Set("lowerInode", Num(env, open.lower_inode));
  object.Set("lowerFsDev", Num(env, open.lower_fsdev));
  object.Set("lowerOffset", Num(env, open.lower_offset));
  object.Set("driver", DriverName(query.driver));
  object.Set("driverVersion", Name(query.version, sizeof query.version));
  object.Set("abiVersion", Num(env, query.abi_version));
  object.Set("features", Num(env, query.features));
  object.Set("maxSlots", Num(env, query.max_slots));
  object.Set("minBlockSize", Num(env, 1ull << (query.min_block_shift & 63)));
  object.Set("maxBlockSize", Num(env, 1ull << (query.max_block_shift & 63)));
  return object;
}

}  // namespace snapbak
