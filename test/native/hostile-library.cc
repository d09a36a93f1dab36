// SPDX-License-Identifier: MIT
// hostile-library SOCKET SEED SECONDS: attacks the driver that serves the
// control socket, whatever process it is in, and says in JSON what it did.
// Exit status 1 when nobody listens there any more, or it was no attack.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "hostile-peer.h"

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  if (argc != 4) {
    fprintf(stderr, "hostile-library SOCKET SEED SECONDS\n");
    return 2;
  }
  const uint64_t seed = strtoull(argv[2], nullptr, 10);
  const auto end = Clock::now() + std::chrono::seconds(strtoull(argv[3], nullptr, 10));
  const auto patience = end + std::chrono::seconds(60);
  snapbak::HostileCounts counts;
  std::atomic<bool> stop{false};
  std::atomic<int> gone{0};
  std::vector<std::thread> attackers;
  for (uint64_t i = 0; i < 4; ++i) {
    attackers.emplace_back([&, i] {
      snapbak::HostilePeer peer(argv[1], seed * 1000 + i, &counts);
      if (!peer.Attack(stop)) ++gone;
    });
  }
  while (gone.load() == 0 && (Clock::now() < end || (!counts.Enough() && Clock::now() < patience))) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  stop.store(true);
  for (std::thread& attacker : attackers) attacker.join();
  printf(
      "{\"sessions\": %llu, \"started\": %llu, \"requests\": %llu, \"captured\": %llu, \"finished\": %llu}\n",
      static_cast<unsigned long long>(counts.sessions.load()),
      static_cast<unsigned long long>(counts.started.load()),
      static_cast<unsigned long long>(counts.requests.load()),
      static_cast<unsigned long long>(counts.captured.load()),
      static_cast<unsigned long long>(counts.finished.load()));
  return gone.load() == 0 && counts.Enough() ? 0 : 1;
}
