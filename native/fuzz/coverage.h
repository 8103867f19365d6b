// What GCC's -fsanitize-coverage=trace-pc,trace-cmp reports: edges that were taken, constants that were
// compared with. The counterpart of what libFuzzer has built in for Clang.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace persia::fuzz {

inline constexpr std::size_t kEdges = std::size_t{1} << 17;
inline constexpr std::size_t kComparisons = 1024;

struct Comparison {
  std::uint64_t constant = 0;
  std::uint64_t value = 0;
  std::uint8_t bytes = 0;  // 1, 2, 4 or 8
};

struct Coverage {
  bool recording = false;  // the engine's own code may be instrumented too, where it shares templates
  std::uintptr_t previous = 0;
  std::array<std::uint8_t, kEdges> edges{};  // how often, up to 255
  std::array<Comparison, kComparisons> comparisons{};
  std::size_t compared = 0;  // the latest is at (compared - 1) % kComparisons
};

extern Coverage coverage;

// From nothing.
void start_recording();

// Which edges were taken about how often: powers of two, as bits.
class SeenEdges {
 public:
  // What was recorded. True if an edge is new, or has been taken about as often as never before.
  bool add();
  std::size_t count() const { return count_; }  // edges

 private:
  std::vector<std::uint8_t> seen_ = std::vector<std::uint8_t>(kEdges);
  std::size_t count_ = 0;
};

}  // namespace persia::fuzz
