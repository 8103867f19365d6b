// A sign of life of this process, for whoever started it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace persia {

// Where the launcher names the file.
inline constexpr const char* kHeartbeatVariable = "PERSIA_HEARTBEAT";

// Counts a number up in a file, 20 decimal digits and a newline, from a thread of its own until it is
// destroyed. The thread takes no lock of the rest of the process, so only a stop of the whole process stops
// it. The number says nothing but that it has changed; no clock of two processes is ever compared.
class Heartbeat {
 public:
  static constexpr std::chrono::milliseconds kInterval{500};

  // The first beat is in the file when it returns. Throws std::system_error if it cannot be written.
  explicit Heartbeat(const std::string& path, std::chrono::milliseconds interval = kInterval);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

 private:
  bool beat();
  void run();

  int file_;
  std::chrono::milliseconds interval_;
  std::uint64_t count_ = 0;
  std::mutex mutex_;
  std::condition_variable stopping_changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace persia
