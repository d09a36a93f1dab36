// SPDX-License-Identifier: MIT
// Between JavaScript values and ours. Wrong types throw; lib/ has checked what
// users gave, so these are for our own mistakes.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <napi.h>

#include <string>
#include <vector>

#include "../copy/copy_session.h"
#include "../driver/driver.h"
#include "main_queue.h"

namespace snapbak {

inline uint64_t ToU64(const Napi::Value& value, const char* what) {
  if (!value.IsNumber()) throw Napi::TypeError::New(value.Env(), std::string(what) + " is not a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= 9007199254740991.0)) {
    throw Napi::RangeError::New(value.Env(), std::string(what) + " is out of range");
  }
  return static_cast<uint64_t>(number);
}

inline uint32_t ToU32(const Napi::Value& value, const char* what) {
  const uint64_t number = ToU64(value, what);
  if (number > UINT32_MAX) throw Napi::RangeError::New(value.Env(), std::string(what) + " is out of range");
  return static_cast<uint32_t>(number);
}

inline bool ToBool(const Napi::Value& value) { return value.ToBoolean(); }

// A descriptor of our own for the one that JavaScript opened.
inline UniqueFd DuplicateFd(const Napi::Value& value, const char* what) {
  const int fd = fcntl(static_cast<int>(ToU32(value, what)), F_DUPFD_CLOEXEC, 3);
  if (fd < 0) throw MakeError(value.Env(), {-errno, what});
  return UniqueFd(fd);
}

inline std::vector<Extent> ToExtents(const Napi::Value& value, const char* what) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    throw Napi::TypeError::New(value.Env(), std::string(what) + " is not a Float64Array");
  }
  const auto flat = value.As<Napi::Float64Array>();
  std::vector<Extent> extents;
  extents.reserve(flat.ElementLength() / 2);
  for (size_t i = 0; i + 1 < flat.ElementLength(); i += 2) {
    extents.push_back({static_cast<uint64_t>(flat[i]), static_cast<uint64_t>(flat[i + 1])});
  }
  return extents;
}

// The same back.
inline Napi::Value FlatExtents(Napi::Env env, const std::vector<Extent>& extents) {
  auto flat = Napi::Float64Array::New(env, 2 * extents.size());
  for (size_t i = 0; i < extents.size(); i++) {
    flat[2 * i] = static_cast<double>(extents[i].offset);
    flat[2 * i + 1] = static_cast<double>(extents[i].length);
  }
  return flat;
}

inline Napi::Value Num(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

const char* StateName(uint32_t state);
const char* ReasonName(uint32_t reason);
const char* DriverName(uint32_t driver);
Napi::Object CountersObject(Napi::Env env, const uint64_t* counters);
Napi::Object HeatObject(Napi::Env env, const HeatPicture& heat);
Napi::Object StatsObject(Napi::Env env, const CopyStats& stats);
Napi::Object StatusObject(Napi::Env env, const snapbak_status& status);
Napi::Object InfoObject(Napi::Env env, const snapbak_query& query, const snapbak_open& open);

}  // namespace snapbak
