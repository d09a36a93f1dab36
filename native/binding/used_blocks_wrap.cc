// SPDX-License-Identifier: MIT
#include "used_blocks_wrap.h"

#include <memory>

#include "../blocks/ext_blocks.h"
#include "../blocks/range_probe.h"
#include "addon_data.h"
#include "convert.h"
#include "exportable.h"

namespace snapbak {

namespace {

// Owned by the call until it has its answer.
struct Source {
  std::shared_ptr<ExportedDevice> device;
  int fd;  // of the device, or -1
  SourceRange range;
};

Source ToSource(const Napi::CallbackInfo& info) {
  const uint64_t offset = ToU64(info[1], "offset");
  const uint64_t length = ToU64(info[2], "length");
  if (!info[0].IsNumber()) {
    auto device = ExportableWrap::DeviceOf(info[0]);
    if (offset > device->size() || length > device->size() - offset) {
      throw Napi::RangeError::New(info.Env(), "the range does not lie in the device");
    }
    return {device, -1, {device.get(), offset, length}};
  }
  auto file = std::make_shared<FileDevice>(DuplicateFd(info[0], "source"), offset + length);
  return {file, file->fd(), {file.get(), offset, length}};
}

int Probe(const Source& source, RangeProbe* found) {
  const SourceRange& range = source.range;
  return source.fd < 0 ? ProbeEndsOf(range, found)
                       : ProbeRangeOf(source.fd, range.offset, range.length, found);
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
  if (found.unclean) object.Set("unclean", true);
  return object;
}

}  // namespace

Napi::Value ProbeRange(const Napi::CallbackInfo& info) {
  const Source source = ToSource(info);
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([source, settler] {
    auto found = std::make_shared<RangeProbe>();
    const int error = Probe(source, found.get());
    settler.Settle({error, "probe"}, [found](Napi::Env env) { return ProbeObject(env, *found); });
  });
  if (!accepted) settler.Settle({-EBADF, "probe"});
  return settler.promise();
}

Napi::Value JsExtBlocks(const Napi::CallbackInfo& info) {
  const Source source = ToSource(info);
  const bool checked = ToBool(info[3]);
  AddonData* data = AddonData::Of(info.Env());
  Settler settler(info.Env(), data->queue);
  const bool accepted = data->helper->Run([source, checked, settler] {
    auto found = std::make_shared<ExtBlocks>(FindExtBlocks(source.range, checked));
    settler.Settle({}, [found](Napi::Env env) { return BlocksObject(env, *found); });
  });
  if (!accepted) settler.Settle({-EBADF, "blocks"});
  return settler.promise();
}

}  // namespace snapbak
