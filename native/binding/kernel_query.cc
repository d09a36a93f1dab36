// SPDX-License-Identifier: MIT
#include "kernel_query.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include <string>

#include "../driver/unique_fd.h"
#include "convert.h"

namespace snapbak {

Napi::Value QueryKernelDriver(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const UniqueFd control(open("/dev/snapbak/control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) throw MakeError(env, {-errno, "connect"});
  snapbak_query query{};
  query.size = sizeof(query);
  if (ioctl(control.get(), SNAPBAK_IOC_QUERY, &query) != 0) throw MakeError(env, {-errno, "query"});
  Napi::Object object = Napi::Object::New(env);
  object.Set("abiVersion", Num(env, query.abi_version));
  const char* version = reinterpret_cast<const char*>(query.version);
  object.Set("version", std::string(version, strnlen(version, sizeof(query.version))));
  return object;
}

}  // namespace snapbak
