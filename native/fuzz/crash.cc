#include "crash.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <utility>

#include "coverage.h"

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
// Memory beyond what the bytes of a request justify is a defect.
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=512:hard_rss_limit_mb=2048:quarantine_size_mb=16:malloc_context_size=8";
}

namespace persia::fuzz {
namespace {

const Input* running = nullptr;
std::string program_name;
std::string artifact_prefix;

// Called while the process dies. It may be in any state, but it is this or no input to reproduce with.
void keep_input(const char* kind) {
  coverage.recording = false;
  const Input* input = std::exchange(running, nullptr);
  if (input == nullptr) return;
  const std::string path = artifact_prefix + kind + "-" + name_of(*input);
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  const bool written =
      file >= 0 && ::write(file, input->data(), input->size()) == static_cast<ssize_t>(input->size());
  std::fprintf(stderr, "fuzz: %s on an input of %zu bytes, %s\n  to reproduce: %s %s\n", kind, input->size(),
               written ? "which was kept" : "which could NOT be written", program_name.c_str(), path.c_str());
}

void on_signal(int signal) {
  keep_input(signal == SIGALRM ? "timeout" : "crash");
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

std::string name_of(const Input& input) {  // FNV-1a
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const std::uint8_t byte : input) hash = (hash ^ byte) * 0x100000001B3;
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

void keep_what_crashes(const std::string& program, const std::string& artifacts) {
  program_name = program;
  artifact_prefix = artifacts;
  std::signal(SIGABRT, on_signal);
  std::signal(SIGALRM, on_signal);
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback([] { keep_input("crash"); });
  } else {
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, on_signal);
  }
}

void watch(const Input& input) {
  running = &input;
}

void watched() {
  running = nullptr;
}

}  // namespace persia::fuzz
