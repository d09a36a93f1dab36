// SPDX-License-Identifier: MIT
// The nbdkit plugin `snapbak-export`: shows a device that lives in the process
// that started nbdkit (a point-in-time view, a restore on demand) to NBD
// clients. A thin face of ExportClient.
//
//   nbdkit -f -U nbd.sock ./nbdkit-snapbak-export-plugin.so fds=3-18 size=N
//
// The descriptors are inherited: connected sockets with an ExportServer behind
// each. When that has gone, so does nbdkit: there is nothing left to show.
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "../export/export_client.h"
#include "plugin_face.h"

namespace snapbak {
namespace {

// How long clients have to go when the device has gone; a mounted file system never does.
constexpr std::chrono::seconds kClientsGrace{2};

// nbdkit loads a plugin once a process, so this is the process's.
struct State {
  std::vector<UniqueFd> sockets;  // until get_ready
  int64_t size = -1;
  bool read_only = false;
  std::unique_ptr<ExportClient> client;
  UniqueFd cancel;  // an eventfd: the watch is to end
  std::thread watch;
};

State* g_state = nullptr;

void Load() { g_state = new State; }

void Unload() {
  delete g_state;
  g_state = nullptr;
}

// `3-18`, or `3` for one.
int ParseDescriptors(const char* value) {
  unsigned first = 0, last = 0;
  int end = 0;
  if (sscanf(value, "%u-%u%n", &first, &last, &end) != 2 || value[end] != '\0') {
    if (sscanf(value, "%u%n", &first, &end) != 1 || value[end] != '\0') end = -1;
    last = first;
  }
  if (end < 0 || first < 3 || last < first || last - first >= kExportMaxConnections) {
    nbdkit_error("fds=%s is no range of descriptors from 3 on, such as 3-18, of at most %u", value,
                 kExportMaxConnections);
    return -1;
  }
  g_state->sockets.clear();
  for (unsigned fd = first; fd <= last; ++fd) {
    int type = 0;
    socklen_t length = sizeof type;
    if (getsockopt(static_cast<int>(fd), SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_STREAM) {
      nbdkit_error("fds=%s: descriptor %u is no stream socket", value, fd);
      for (UniqueFd& socket : g_state->sockets) socket.Release();  // not known to be ours
      return -1;
    }
    g_state->sockets.emplace_back(static_cast<int>(fd));
  }
  return 0;
}

int Config(const char* key, const char* value) {
  if (strcmp(key, "fds") == 0) return ParseDescriptors(value);
  if (strcmp(key, "size") == 0) {
    g_state->size = nbdkit_parse_size(value);
    return g_state->size < 0 ? -1 : 0;
  }
  if (strcmp(key, "readonly") == 0) return ParseBool(value, &g_state->read_only);
  nbdkit_error("unknown parameter '%s'; known are fds, size and readonly", key);
  return -1;
}

int ConfigComplete() {
  if (!g_state->sockets.empty() && g_state->size >= 0) return 0;
  nbdkit_error("fds=FIRST-LAST and size=BYTES are needed; snapbak starts this plugin itself");
  return -1;
}

// Before nbdkit makes its socket and may go to the background: no thread yet.
int GetReady() {
  // to connect takes the right to write, and that is the owner's alone
  umask(077);
  g_state->cancel.Reset(eventfd(0, EFD_CLOEXEC));
  if (!g_state->cancel.valid()) {
    nbdkit_error("eventfd: %s", strerror(errno));
    return -1;
  }
  g_state->client = std::make_unique<ExportClient>(std::move(g_state->sockets));
  return 0;
}

int AfterFork() {
  try {
    g_state->watch = std::thread([client = g_state->client.get(), cancel = g_state->cancel.get()] {
      if (!client->WaitForEnd(cancel)) return;
      nbdkit_shutdown();
      // nbdkit now waits for its clients; what they ask for fails, and some never go
      if (!ExportClient::WaitForCancel(cancel, kClientsGrace)) _exit(0);
    });
  } catch (const std::system_error&) {
    nbdkit_error("cannot start a thread");
    return -1;
  }
  return 0;
}

void Cleanup() {
  if (!g_state->watch.joinable()) return;
  const uint64_t one = 1;
  while (write(g_state->cancel.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  g_state->watch.join();
}

int64_t GetSize(void*) { return g_state->size; }

int CanWrite(void*) { return g_state->read_only ? 0 : 1; }

int Pread(void*, void* data, uint32_t count, uint64_t offset, uint32_t) {
  return Run("read", offset, count, [=] { return g_state->client->Read(offset, data, count); });
}

int Pwrite(void*, const void* data, uint32_t count, uint64_t offset, uint32_t flags) {
  const bool fua = IsDurable(flags);
  return Run("write", offset, count, [=] { return g_state->client->Write(offset, data, count, fua); });
}

int Flush(void*, uint32_t) {
  return Run("flush", 0, 0, [] { return g_state->client->Flush(); });
}

int Trim(void*, uint32_t count, uint64_t offset, uint32_t flags) {
  const bool fua = IsDurable(flags);
  return Run("trim", offset, count, [=] { return g_state->client->Discard(offset, count, fua); });
}

int Zero(void*, uint32_t count, uint64_t offset, uint32_t flags) {
  const bool fua = IsDurable(flags);
  return Run("zero", offset, count, [=] { return g_state->client->WriteZeroes(offset, count, fua); });
}

nbdkit_plugin MakePlugin() {
  nbdkit_plugin plugin = PluginFace<kExportMaxData>();
  plugin.name = "snapbakexport";
  plugin.longname = "Snapbak export";
  plugin.description = "A device of the process that started nbdkit.";
  plugin.load = Load;
  plugin.unload = Unload;
  plugin.config = Config;
  plugin.config_complete = ConfigComplete;
  plugin.config_help =
      "fds=<FIRST>-<LAST>  (required) Inherited sockets to the process with the device.\n"
      "size=<BYTES>        (required) Size of the device.\n"
      "readonly=<BOOL>     The device takes no writes.";
  plugin.get_ready = GetReady;
  plugin.after_fork = AfterFork;
  plugin.cleanup = Cleanup;
  plugin.get_size = GetSize;
  plugin.can_write = CanWrite;
  plugin.can_fast_zero = No;
  plugin.pread = Pread;
  plugin.pwrite = Pwrite;
  plugin.flush = Flush;
  plugin.trim = Trim;
  plugin.zero = Zero;
  return plugin;
}

nbdkit_plugin g_plugin = MakePlugin();

}  // namespace
}  // namespace snapbak

NBDKIT_REGISTER_PLUGIN(snapbak::g_plugin)
