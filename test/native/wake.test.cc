// SPDX-License-Identifier: MIT
// Wake-ups between sides that do not trust each other.
#include "native/driver/wake.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

namespace snapbak {
namespace {

bool Readable(int fd) {
  struct pollfd pfd = {fd, POLLIN, 0};
  return poll(&pfd, 1, 0) == 1;
}

TEST(Wake, IsSeenOnceItIsTakenNoMore) {
  UniqueFd ours, theirs;
  ASSERT_EQ(MakeWakePair(&ours, &theirs), 0);
  EXPECT_FALSE(Readable(theirs.get()));
  Wake(ours.get());
  Wake(ours.get());
  EXPECT_TRUE(Readable(theirs.get()));
  EXPECT_TRUE(TakeWakes(theirs.get()));
  EXPECT_FALSE(Readable(theirs.get()));
  EXPECT_FALSE(Readable(ours.get()));
}

// alarm() ends the test, if it must: a call that blocks does so for ever.
TEST(Wake, NeverBlocksWhateverTheOtherSideDoesToItsEnd) {
  UniqueFd ours, theirs;
  ASSERT_EQ(MakeWakePair(&ours, &theirs), 0);
  ASSERT_EQ(fcntl(theirs.get(), F_SETFL, 0), 0);
  ASSERT_EQ(fcntl(ours.get(), F_SETFL, 0), 0);
  alarm(20);
  for (int i = 0; i < 100'000; ++i) Wake(ours.get());  // nobody takes them
  EXPECT_TRUE(Readable(theirs.get()));
  EXPECT_TRUE(TakeWakes(ours.get())) << "nothing there is no reason to wait";
  char byte = 0;
  while (send(theirs.get(), &byte, 1, MSG_DONTWAIT) == 1) {
  }
  EXPECT_TRUE(TakeWakes(ours.get()));
  alarm(0);
}

TEST(Wake, SaysThatTheOtherSideHasGone) {
  UniqueFd ours, theirs;
  ASSERT_EQ(MakeWakePair(&ours, &theirs), 0);
  ASSERT_EQ(shutdown(theirs.get(), SHUT_RDWR), 0);
  EXPECT_FALSE(TakeWakes(ours.get()));
  Wake(ours.get());  // no SIGPIPE
  theirs.Reset();
  EXPECT_FALSE(TakeWakes(ours.get()));
  Wake(ours.get());
}

TEST(Wake, TakesNoOtherKindOfDescriptorForAnEnd) {
  UniqueFd ours, theirs;
  ASSERT_EQ(MakeWakePair(&ours, &theirs), 0);
  EXPECT_TRUE(IsWakeEnd(theirs.get()));
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  const UniqueFd in(fds[0]), out(fds[1]);
  EXPECT_FALSE(IsWakeEnd(in.get()));
  EXPECT_FALSE(IsWakeEnd(-1));
}

}  // namespace
}  // namespace snapbak
