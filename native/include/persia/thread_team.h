// A fixed team of threads that does one piece of work at a time, together.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace persia {

inline constexpr std::uint32_t kMaxThreads = 256;

// The thread that calls run() is thread 0; a team of one starts no thread. Between two runs the helpers
// wait without pause for a moment, because work often follows work, and then sleep.
class ThreadTeam {
 public:
  // Throws std::invalid_argument unless threads is from 1 to kMaxThreads, std::system_error if there are
  // no more threads.
  explicit ThreadTeam(std::uint32_t threads);
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;
  ~ThreadTeam();

  std::uint32_t size() const { return static_cast<std::uint32_t>(errors_.size()); }

  // Calls work(t) on each thread t, and returns when all have ended. What they wrote is then seen by the
  // caller, and what the caller wrote before is seen by them. If some threw, the error of the first thread
  // that did is thrown. One run at a time; work must not call run().
  template <typename Work>
  void run(Work&& work) {
    if (size() == 1) {
      work(std::uint32_t{0});
      return;
    }
    using Plain = std::remove_reference_t<Work>;
    run_all([](void* what, std::uint32_t thread) { (*static_cast<Plain*>(what))(thread); },
            const_cast<void*>(static_cast<const void*>(std::addressof(work))));
  }

 private:
  using Call = void (*)(void* what, std::uint32_t thread);

  void run_all(Call call, void* what);
  void execute(std::uint32_t thread);
  void help(std::uint32_t thread);
  void stop();

  Call call_ = nullptr;
  void* what_ = nullptr;
  bool stopping_ = false;
  std::vector<std::exception_ptr> errors_;    // by thread
  std::atomic<std::uint32_t> started_{0};     // runs
  std::atomic<std::uint32_t> unfinished_{0};  // helpers of this run
  std::vector<std::thread> helpers_;
};

}  // namespace persia
