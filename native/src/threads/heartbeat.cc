#include "persia/heartbeat.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <system_error>

namespace persia {

Heartbeat::Heartbeat(const std::string& path, std::chrono::milliseconds interval)
    : file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)), interval_(interval) {
  if (file_ < 0 || !beat()) {
    const int error = errno;
    if (file_ >= 0) ::close(file_);
    throw std::system_error(error, std::generic_category(), "heartbeat " + path);
  }
  // Signals are for the threads that were there before.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stopping_changed_.notify_all();
  thread_.join();
  ::close(file_);
}

// The same bytes are written again and again: that takes no space, so a full disk does not stop it.
bool Heartbeat::beat() {
  std::array<char, 32> text{};
  const int size = std::snprintf(text.data(), text.size(), "%020" PRIu64 "\n", ++count_);
  return ::pwrite(file_, text.data(), static_cast<std::size_t>(size), 0) == size;
}

void Heartbeat::run() {
  bool told = false;
  std::unique_lock lock(mutex_);
  while (!stopping_changed_.wait_for(lock, interval_, [this] { return stopping_; })) {
    if (beat() || told) continue;
    told = true;
    std::fprintf(stderr, "the heartbeat cannot be written: %s\n",
                 std::generic_category().message(errno).c_str());
  }
}

}  // namespace persia
