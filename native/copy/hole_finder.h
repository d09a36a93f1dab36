// SPDX-License-Identifier: MIT
// Where a sparse file holds nothing, so that the sweep and the replay need not
// read it. Asks the file system (SEEK_DATA) once an extent and remembers the
// answer: give each thread its own. Only file systems whose answer is known to
// cover data that is still in the page cache are believed.
#pragma once

#include <cstdint>

namespace snapbak {

class HoleFinder {
 public:
  // `fd` outlives this; any kind of file.
  explicit HoleFinder(int fd);

  // True if [offset, offset + length) is one hole, and so reads as zeroes. An
  // answer may come from memory: ask only about bytes that have not changed
  // since the first question.
  bool IsHole(uint64_t offset, uint64_t length);

 private:
  int fd_;  // -1: nothing is ever a hole
  uint64_t hole_begin_ = 0, hole_end_ = 0;
  uint64_t data_begin_ = 0, data_end_ = 0;
};

}  // namespace snapbak
