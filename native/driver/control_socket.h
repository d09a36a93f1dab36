// SPDX-License-Identifier: MIT
// The control socket as a file: who may find it, who may replace it.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <string>

#include "unique_fd.h"

namespace snapbak {

class ControlSocket {
 public:
  ControlSocket() = default;
  ControlSocket(ControlSocket&&) = default;
  ControlSocket& operator=(ControlSocket&&) = default;

  // A listening socket at `path`, mode 0600 from its first moment. A socket
  // file whose server is dead is replaced. -EADDRINUSE: its server lives;
  // -EEXIST: there is something else at `path`; -ENAMETOOLONG.
  static int Listen(const std::string& path, ControlSocket* out);

  int fd() const { return fd_.get(); }

  // Stops listening; removes the file if it is still the one that Listen made.
  void Close();

 private:
  std::string path_;
  UniqueFd fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// Who may speak to the driver: the user it runs as, and root.
bool PeerAllowed(const struct ucred& peer);

}  // namespace snapbak
