// SPDX-License-Identifier: MIT
#include "device_mapper_wrap.h"

#include <errno.h>
#include <sys/sysmacros.h>

#include <functional>
#include <string>
#include <vector>

#include "convert.h"
#include "dm_layer_wrap.h"
#include "dm_promise.h"

namespace snapbak {

namespace {

// installed()
Napi::Value Installed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), DmLibrary::Get() != nullptr);
}

// info({ device } | { name } | { uuid })
Napi::Value Info(const Napi::CallbackInfo& info) {
  const auto where = info[0].As<Napi::Object>();
  std::function<int(DeviceMapper*, DmInfo*)> look;
  if (where.Has("device")) {
    look = [device = ToU64(where.Get("device"), "device")](DeviceMapper* dm, DmInfo* out) {
      return dm->InfoByNumber(device, out);
    };
  } else if (where.Has("name")) {
    look = [name = Text(where.Get("name"))](DeviceMapper* dm, DmInfo* out) {
      return dm->InfoByName(name, out);
    };
  } else {
    look = [uuid = Text(where.Get("uuid"))](DeviceMapper* dm, DmInfo* out) {
      return dm->InfoByUuid(uuid, out);
    };
  }
  return Promised<DmInfo>(
      info,
      [look](DeviceMapper* dm, DmInfo* out) {
        const int error = look(dm, out);
        return error == -ENXIO || error == -ENOTBLK ? 0 : error;
      },
      [](Napi::Env env, const DmInfo& found) -> Napi::Value {
        if (found.name.empty()) return env.Null();
        Napi::Object object = Napi::Object::New(env);
        object.Set("name", found.name);
        object.Set("uuid", found.uuid);
        object.Set("device", Num(env, makedev(found.major, found.minor)));
        object.Set("openCount", Napi::Number::New(env, found.open_count));
        object.Set("suspended", Napi::Boolean::New(env, found.suspended));
        object.Set("liveTable", Napi::Boolean::New(env, found.live_table));
        object.Set("inactiveTable", Napi::Boolean::New(env, found.inactive_table));
        object.Set("readOnly", Napi::Boolean::New(env, found.read_only));
        return object;
      });
}

// table(name, inactive)
Napi::Value Table(const Napi::CallbackInfo& info) {
  return Promised<DmTable>(
      info,
      [name = Text(info[0]), inactive = ToBool(info[1])](DeviceMapper* dm, DmTable* table) {
        return dm->Table(name, inactive, table);
      },
      [](Napi::Env env, const DmTable& table) -> Napi::Value {
        Napi::Array lines = Napi::Array::New(env, table.size());
        for (uint32_t i = 0; i < table.size(); ++i) {
          Napi::Object line = Napi::Object::New(env);
          line.Set("offset", Num(env, 512 * table[i].start));
          line.Set("length", Num(env, 512 * table[i].length));
          line.Set("type", table[i].type);
          lines.Set(i, line);
        }
        return lines;
      });
}

// deps(name)
Napi::Value Deps(const Napi::CallbackInfo& info) {
  using Devices = std::vector<uint64_t>;
  return Promised<Devices>(
      info, [name = Text(info[0])](DeviceMapper* dm, Devices* devices) { return dm->Deps(name, devices); },
      [](Napi::Env env, const Devices& devices) -> Napi::Value {
        Napi::Array numbers = Napi::Array::New(env, devices.size());
        for (uint32_t i = 0; i < devices.size(); ++i) numbers.Set(i, Num(env, devices[i]));
        return numbers;
      });
}

// targetVersion(type)
Napi::Value TargetVersion(const Napi::CallbackInfo& info) {
  return Promised<std::string>(
      info,
      [type = Text(info[0])](DeviceMapper* dm, std::string* found) {
        uint32_t version[3];
        const int error = dm->TargetVersion(type, version);
        if (error == -EINVAL) return 0;  // no such target
        if (error != 0) return error;
        *found =
            std::to_string(version[0]) + "." + std::to_string(version[1]) + "." + std::to_string(version[2]);
        return 0;
      },
      [](Napi::Env env, const std::string& found) -> Napi::Value {
        if (found.empty()) return env.Null();
        return Napi::String::New(env, found);
      });
}

// remove(name), clear(name)
template <int (*Request)(DeviceMapper*, const std::string&)>
Napi::Value Named(const Napi::CallbackInfo& info) {
  struct Nothing {};
  return Promised<Nothing>(
      info, [name = Text(info[0])](DeviceMapper* dm, Nothing*) { return Request(dm, name); },
      [](Napi::Env env, const Nothing&) -> Napi::Value { return env.Undefined(); });
}

int Remove(DeviceMapper* dm, const std::string& name) { return dm->Remove(name, false); }
int Clear(DeviceMapper* dm, const std::string& name) { return dm->Clear(name); }

}  // namespace

Napi::Object DefineDeviceMapper(Napi::Env env) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("installed", Napi::Function::New(env, &Installed));
  object.Set("info", Napi::Function::New(env, &Info));
  object.Set("table", Napi::Function::New(env, &Table));
  object.Set("deps", Napi::Function::New(env, &Deps));
  object.Set("targetVersion", Napi::Function::New(env, &TargetVersion));
  object.Set("remove", Napi::Function::New(env, &Named<&Remove>));
  object.Set("clear", Napi::Function::New(env, &Named<&Clear>));
  DefineDmLayer(env, object);
  return object;
}

}  // namespace snapbak
