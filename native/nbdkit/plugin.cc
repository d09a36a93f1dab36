// SPDX-License-Identifier: MIT
// The nbdkit plugin `snapbak`: an image file or a block device as an NBD
// export whose writes pass through the engine, and the control socket by which
// a backup is taken. A thin face: each callback is one call of the engine.
//
//   nbdkit -f -U nbd.sock ./nbdkit-snapbak-plugin.so file=IMAGE control=SOCKET
//
// One plugin serves one image; the engine refuses a second writer on it.
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "../driver/control_server.h"
#include "../driver/engine.h"
#include "plugin_face.h"
#include "shutdown_watch.h"

namespace snapbak {
namespace {

// How long others may look at a device, as udevd does when the server before this one has closed it.
constexpr std::chrono::seconds kLockPatience{1};

// nbdkit loads a plugin once a process, so this is the process's.
struct State {
  std::string file;
  std::string control;
  bool read_only = false;
  bool outlive_parent = false;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<ControlServer> server;
  ShutdownWatch watch;
};

State* g_state = nullptr;

void Load() { g_state = new State; }

void Unload() {
  delete g_state;
  g_state = nullptr;
}

int MakeAbsolute(const char* value, std::string* out) {
  char* path = nbdkit_absolute_path(value);
  if (path == nullptr) return -1;
  *out = path;
  free(path);
  return 0;
}

int Config(const char* key, const char* value) {
  if (strcmp(key, "file") == 0) return MakeAbsolute(value, &g_state->file);
  if (strcmp(key, "control") == 0) return MakeAbsolute(value, &g_state->control);
  if (strcmp(key, "readonly") == 0) return ParseBool(value, &g_state->read_only);
  if (strcmp(key, "outlive-parent") == 0) return ParseBool(value, &g_state->outlive_parent);
  nbdkit_error("unknown parameter '%s'; known are file, control, readonly and outlive-parent", key);
  return -1;
}

int ConfigComplete() {
  if (g_state->file.empty()) {
    nbdkit_error("file=IMAGE is missing: the image file or block device to serve");
    return -1;
  }
  if (g_state->control.empty()) {
    nbdkit_error("control=SOCKET is missing: where backups connect");
    return -1;
  }
  return 0;
}

const char* OpenHint(int error, bool read_only) {
  switch (error) {
    case -EBUSY:
      return " (another Snapbak driver serves it)";
    case -ENODATA:
      return " (it is empty)";
    case -EACCES:
    case -EROFS:
    case -EPERM:
      return read_only ? "" : " (readonly=true serves it without writes)";
    default:
      return "";
  }
}

// Before nbdkit goes to the background, so that what is wrong is still heard.
// No thread is started here: it would not survive the fork.
int GetReady() {
  // nbdkit 1.32 asks the kernel to be ended with its parent thread whether or
  // not it was given --exit-with-parent. An export with clients must not go
  // because a program that watched over it has.
  if (g_state->outlive_parent && prctl(PR_SET_PDEATHSIG, 0) != 0) {
    nbdkit_error("cannot outlive the parent: %s", strerror(errno));
    return -1;
  }
  // nbdkit binds its socket after this, with what the umask leaves of 0777: to
  // connect takes the right to write, and that is the owner's alone.
  umask(077);
  EngineOptions options;
  options.driver = SNAPBAK_DRIVER_USER;
  options.read_only = g_state->read_only;
  options.lock_patience = kLockPatience;
  int ret = Engine::Open(g_state->file, options, &g_state->engine);
  if (ret != 0) {
    nbdkit_error("cannot open %s: %s%s", g_state->file.c_str(), strerror(-ret),
                 OpenHint(ret, g_state->read_only));
    return -1;
  }
  ControlServerOptions server;
  server.debug = [](const std::string& line) { nbdkit_debug("%s", line.c_str()); };
  ret = ControlServer::Listen(g_state->control, g_state->engine.get(), std::move(server), &g_state->server);
  if (ret != 0) {
    const char* hint = ret == -EADDRINUSE ? " (a live server listens there)"
                       : ret == -EEXIST   ? " (and it is not a socket)"
                                          : "";
    nbdkit_error("cannot listen on %s: %s%s", g_state->control.c_str(), strerror(-ret), hint);
    return -1;
  }
  return 0;
}

int AfterFork() {
  int ret = g_state->server->Start();
  // When nbdkit is told to quit it waits for the requests under way, and a held
  // write is one: the session ends first.
  if (ret == 0) ret = g_state->watch.Start([] { g_state->server->Stop(); });
  if (ret != 0) {
    nbdkit_error("cannot start a thread: %s", strerror(-ret));
    return -1;
  }
  return 0;
}

void Cleanup() {
  g_state->watch.Stop();
  if (g_state->server) g_state->server->Stop();
}

void DumpPlugin() { printf("snapbak_abi_version=%d\n", SNAPBAK_ABI_VERSION); }

int64_t GetSize(void*) { return static_cast<int64_t>(g_state->engine->size()); }

int CanWrite(void*) { return g_state->engine->read_only() ? 0 : 1; }

int Pread(void*, void* data, uint32_t count, uint64_t offset, uint32_t) {
  return Run("read", offset, count, [=] { return g_state->engine->Read(data, count, offset); });
}

int Pwrite(void*, const void* data, uint32_t count, uint64_t offset, uint32_t flags) {
  const bool fua = IsDurable(flags);
  return Run("write", offset, count, [=] { return g_state->engine->Write(data, count, offset, fua); });
}

int Flush(void*, uint32_t) {
  return Run("flush", 0, 0, [] { return g_state->engine->Flush(); });
}

int Trim(void*, uint32_t count, uint64_t offset, uint32_t flags) {
  const bool fua = IsDurable(flags);
  return Run("trim", offset, count, [=] { return g_state->engine->Discard(offset, count, fua); });
}

int Zero(void*, uint32_t count, uint64_t offset, uint32_t flags) {
  ZeroOptions options;
  options.fua = IsDurable(flags);
  options.may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
  options.fast = (flags & NBDKIT_FLAG_FAST_ZERO) != 0;
  return Run("zero", offset, count, [=] { return g_state->engine->WriteZeroes(offset, count, options); });
}

// A look at the lower device, session or not: writes go to the same place.
int Extents(void*, uint32_t count, uint64_t offset, uint32_t flags, struct nbdkit_extents* extents) {
  constexpr int kEnough = 1;
  const bool one = (flags & NBDKIT_FLAG_REQ_ONE) != 0;
  return Run("extents", offset, count, [=] {
    const int ret =
        g_state->engine->lower().Extents(offset, count, [=](uint64_t at, uint64_t length, bool hole) {
          const uint32_t type = hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
          if (nbdkit_add_extent(extents, at, length, type) != 0) return -errno;
          return one ? kEnough : 0;
        });
    return ret == kEnough ? 0 : ret;
  });
}

nbdkit_plugin MakePlugin() {
  nbdkit_plugin plugin = PluginFace<0xffffffff>();
  plugin.name = "snapbak";
  plugin.longname = "Snapbak user driver";
  plugin.description = "An image or block device that can be backed up while it is written to.";
  plugin.load = Load;
  plugin.unload = Unload;
  plugin.config = Config;
  plugin.config_complete = ConfigComplete;
  plugin.config_help =
      "file=<IMAGE>      (required) The image file or block device to serve.\n"
      "control=<SOCKET>  (required) Unix socket on which backups connect.\n"
      "readonly=<BOOL>   Open the image for reading only.\n"
      "outlive-parent=<BOOL>  With -f: go on when the parent process dies.";
  plugin.magic_config_key = "file";
  plugin.get_ready = GetReady;
  plugin.after_fork = AfterFork;
  plugin.cleanup = Cleanup;
  plugin.dump_plugin = DumpPlugin;
  plugin.get_size = GetSize;
  plugin.can_write = CanWrite;
  plugin.can_fast_zero = Yes;
  plugin.can_extents = Yes;
  plugin.pread = Pread;
  plugin.pwrite = Pwrite;
  plugin.flush = Flush;
  plugin.trim = Trim;
  plugin.zero = Zero;
  plugin.extents = Extents;
  return plugin;
}

nbdkit_plugin g_plugin = MakePlugin();

}  // namespace
}  // namespace snapbak

NBDKIT_REGISTER_PLUGIN(snapbak::g_plugin)
