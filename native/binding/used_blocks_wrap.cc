// SPDX-License-Identifier: MIT
#include "used_blocks_wrap.h"

#include <memory>

#include "../blocks/ext_blocks.h"
#include "../blocks/range_probe.h"
#include "addon_data.h"
#include "convert.h"

namespace snapbak {

namespace {

struct Range {
  UniqueFd fd;
  uint64_t offset;
  uint64_t length;
};

std::shared_ptr<Range> ToRange(const Napi::CallbackInfo& info) {
  return std::make_shared<Range>(
      Range{DuplicateFd(info[0], "fd"), ToU64(info[1], "offset"), ToU64(info[2], "length")});
}

Napi::Value ProbeObject(Napi::Env env, const RangeProbe& found) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("type", found.type);
  object.Set("usage", found.usage);
  object.Set("table", found.table);
  object.Set("several", found.several);
  Napi::Array partitions = Napi::Array::New(env, found.partitions.size());
  for (size_t i = 0; i < found.partitions.size(); ++i) {
    const FoundPartition& one = found.partitions[i];
    Napi::Object partition = Napi::Object::New(env);
    partition.Set("number", one.number);
    partition.Set("offset", Num(env, one.offset));
    partition.Set("length", Num(env, one.length));
    partition.Set("extended", one.extended);
    partition.Set("type", one.type);
    partitions.Set(static_cast<uint32_t>(i), partition);
  }
  object.Set("partitions", partitions);
  return object;
}

Napi::Value BlocksObject(Napi::Env env, const ExtBlocks& found) {
  Napi::Object object = Napi::Object::New(env);
  Napi::Float64Array extents = Napi::Float64Array::New(env, 2 * found.extents.size());
  for (size_t i = 0; i < found.extents.size(); ++i) {
    extents[2 * i] = static_cast<double>(found.extents[i].offset);
    extents[2 * i + 1] = static_cast<double>(found.extents[i].length);
  }
  object.Set("extents", extents);
  object.Set("liveJournal", found.live_journal);
  if (!found.doubt.empty()) object.Set("doubt", found.doubt);
  return object;
}

}  // namespace

Napi::Value ProbeRange(const Napi::CallbackInfo& info) {
  auto range = ToRange(info);
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([range, settler] {
    auto found = std::make_shared<RangeProbe>();
    const int error = ProbeRangeOf(range->fd.get(), range->offset, range->length, found.get());
    settler.Settle({error, "probe"}, [found](Napi::Env env) { return ProbeObject(env, *found); });
  });
  if (!accepted) settler.Settle({-EBADF, "probe"});
  return settler.promise();
}

Napi::Value JsExtBlocks(const Napi::CallbackInfo& info) {
  auto range = ToRange(info);
  const bool frozen = ToBool(info[3]);
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([range, frozen, settler] {
    FileDevice device(std::move(range->fd), range->offset + range->length);
    auto found = std::make_shared<ExtBlocks>(FindExtBlocks({&device, range->offset, range->length}, frozen));
    settler.Settle({}, [found](Napi::Env env) { return BlocksObject(env, *found); });
  });
  if (!accepted) settler.Settle({-EBADF, "blocks"});
  return settler.promise();
}

}  // namespace snapbak
