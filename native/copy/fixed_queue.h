// SPDX-License-Identifier: MIT
// A queue of bounded length that allocates once. Captured blocks wait in one:
// there are never more of them than slots.
#pragma once

#include <cstddef>
#include <vector>

namespace snapbak {

template <typename T>
class FixedQueue {
 public:
  explicit FixedQueue(size_t capacity) : items_(capacity) {}

  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

  // The caller has seen size() < capacity.
  void PushBack(const T& item) { items_[(first_ + size_++) % items_.size()] = item; }
  void PushFront(const T& item) {
    first_ = (first_ + items_.size() - 1) % items_.size();
    size_++;
    items_[first_] = item;
  }
  // Null: none of them is such a one. Looks at all, a nanosecond for one.
  template <typename Test>
  const T* Find(Test test) const {
    for (size_t i = 0; i < size_; i++) {
      const T& item = items_[(first_ + i) % items_.size()];
      if (test(item)) return &item;
    }
    return nullptr;
  }
  // The caller has seen !empty().
  T PopFront() {
    const T item = items_[first_];
    first_ = (first_ + 1) % items_.size();
    size_--;
    return item;
  }

 private:
  std::vector<T> items_;
  size_t first_ = 0;
  size_t size_ = 0;
};

}  // namespace snapbak
