#include "persia/thread_team.h"

#include <chrono>
#include <stdexcept>
#include <string>

namespace persia {
namespace {

// About what a server needs between two steps of a request: falling asleep and waking up take as long.
constexpr auto kSpin = std::chrono::microseconds(50);

// Returns when `value` is another than `old`.
void await_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  const auto until = std::chrono::steady_clock::now() + kSpin;
  while (value.load(std::memory_order_acquire) == old) {
    if (std::chrono::steady_clock::now() < until) {
      std::this_thread::yield();  // there may be fewer cores than threads
    } else {
      value.wait(old, std::memory_order_acquire);
    }
  }
}

}  // namespace

ThreadTeam::ThreadTeam(std::uint32_t threads) {
  if (threads < 1 || threads > kMaxThreads)
    throw std::invalid_argument("threads must be from 1 to " + std::to_string(kMaxThreads));
  errors_.resize(threads);
  helpers_.reserve(threads - 1);
  try {
    for (std::uint32_t t = 1; t < threads; ++t) helpers_.emplace_back([this, t] { help(t); });
  } catch (...) {
    stop();
    throw;
  }
}

ThreadTeam::~ThreadTeam() {
  stop();
}

void ThreadTeam::stop() {
  stopping_ = true;
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
  helpers_.clear();
}

void ThreadTeam::run_all(Call call, void* what) {
  call_ = call;
  what_ = what;
  unfinished_.store(size() - 1, std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  execute(0);
  while (const std::uint32_t left = unfinished_.load(std::memory_order_acquire)) {
    await_change(unfinished_, left);
  }
  std::exception_ptr first;
  for (std::exception_ptr& error : errors_) {
    if (error && !first) first = error;
    error = nullptr;
  }
  if (first) std::rethrow_exception(first);
}

void ThreadTeam::execute(std::uint32_t thread) {
  try {
    call_(what_, thread);
  } catch (...) {
    errors_[thread] = std::current_exception();
  }
}

void ThreadTeam::help(std::uint32_t thread) {
  for (std::uint32_t seen = 0;; ++seen) {
    await_change(started_, seen);
    if (stopping_) return;
    execute(thread);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_one();
  }
}

}  // namespace persia
