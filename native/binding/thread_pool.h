// SPDX-License-Identifier: MIT
// Threads of our own for work that blocks; libuv's are never used. One thread
// makes it a queue in order.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace snapbak {

class ThreadPool {
 public:
  ThreadPool(const char* name, unsigned threads) : name_(name), limit_(threads) {}
  ~ThreadPool() { Join(); }

  // Threads are started as they are needed. False after Join().
  bool Run(std::function<void()> work) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (joining_) return false;
    work_.push_back(std::move(work));
    if (idle_ >= work_.size() || threads_.size() >= limit_) {
      ready_.notify_one();
    } else {
      threads_.emplace_back([this] { Loop(); });
    }
    return true;
  }

  // Runs what is queued, then ends the threads. Idempotent; not from a thread of the pool.
  void Join() {
    std::vector<std::thread> threads;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      joining_ = true;
      threads.swap(threads_);
    }
    ready_.notify_all();
    for (std::thread& thread : threads) thread.join();
  }

 private:
  void Loop() {
    pthread_setname_np(pthread_self(), name_);
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      ++idle_;
      ready_.wait(lock, [this] { return joining_ || !work_.empty(); });
      --idle_;
      if (work_.empty()) return;
      std::function<void()> work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      work();
      work = nullptr;  // destroyed outside the lock
      lock.lock();
    }
  }

  const char* const name_;
  const size_t limit_;
  std::mutex mutex_;  // guards all below
  std::condition_variable ready_;
  std::deque<std::function<void()>> work_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool joining_ = false;
};

}  // namespace snapbak
