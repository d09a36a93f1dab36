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
  // Takes the first such one out of turn; false: there is none. Moves all behind it.
  template <typename Test>
  bool Take(Test test, T* item) {
    const T* found = Find(test);
    if (found == nullptr) return false;
    *item = *found;
    const size_t capacity = items_.size();
    size_t at = static_cast<size_t>(found - items_.data());
    for (size_t left = size_ - 1 - (at + capacity - first_) % capacity; left > 0; left--) {
      const size_t next = (at + 1) % capacity;
      items_[at] = items_[next];
      at = next;
    }
    size_--;
    return true;
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
