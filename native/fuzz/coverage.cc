#include "coverage.h"

#include <cstring>

namespace persia::fuzz {

Coverage coverage;

namespace {

void compared(std::uint64_t constant, std::uint64_t value, std::uint8_t bytes) {
  if (!coverage.recording || constant == value) return;
  coverage.comparisons[coverage.compared++ % kComparisons] = {constant, value, bytes};
}

}  // namespace

void start_recording() {
  coverage.edges.fill(0);
  coverage.previous = 0;
  coverage.recording = true;
}

bool SeenEdges::add() {
  bool is_new = false;
  for (std::size_t word = 0; word < kEdges; word += 8) {
    std::uint64_t any = 0;
    std::memcpy(&any, coverage.edges.data() + word, sizeof any);
    if (any == 0) continue;
    for (std::size_t edge = word; edge < word + 8; ++edge) {
      if (coverage.edges[edge] == 0) continue;
      const auto bit = static_cast<std::uint8_t>(1U << (31 - __builtin_clz(coverage.edges[edge])));
      if (seen_[edge] == 0) ++count_;
      is_new |= (seen_[edge] & bit) == 0;
      seen_[edge] |= bit;
    }
  }
  return is_new;
}

}  // namespace persia::fuzz

using persia::fuzz::compared;
using persia::fuzz::coverage;

extern "C" {

void __sanitizer_cov_trace_pc() {
  if (!coverage.recording) return;
  // Relative to this program, so that a run with the same seed is the same wherever it is loaded.
  const auto base = reinterpret_cast<std::uintptr_t>(&coverage);
  const auto at = reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)) - base;
  const std::uintptr_t block = (at * 0x9E3779B97F4A7C15ULL) >> 47;
  std::uint8_t& count = coverage.edges[(block ^ coverage.previous) % persia::fuzz::kEdges];
  if (count < 255) ++count;
  coverage.previous = block >> 1;
}

void __sanitizer_cov_trace_const_cmp1(std::uint8_t constant, std::uint8_t value) {
  compared(constant, value, 1);
}
void __sanitizer_cov_trace_const_cmp2(std::uint16_t constant, std::uint16_t value) {
  compared(constant, value, 2);
}
void __sanitizer_cov_trace_const_cmp4(std::uint32_t constant, std::uint32_t value) {
  compared(constant, value, 4);
}
void __sanitizer_cov_trace_const_cmp8(std::uint64_t constant, std::uint64_t value) {
  compared(constant, value, 8);
}
// Of two variables, either may come from the input.
void __sanitizer_cov_trace_cmp1(std::uint8_t a, std::uint8_t b) {
  compared(a, b, 1);
}
void __sanitizer_cov_trace_cmp2(std::uint16_t a, std::uint16_t b) {
  compared(a, b, 2);
}
void __sanitizer_cov_trace_cmp4(std::uint32_t a, std::uint32_t b) {
  compared(a, b, 4);
}
void __sanitizer_cov_trace_cmp8(std::uint64_t a, std::uint64_t b) {
  compared(a, b, 8);
}
// cases[0] is how many there are, cases[1] the bits of the value, then come the cases.
void __sanitizer_cov_trace_switch(std::uint64_t value, const std::uint64_t* cases) {
  for (std::uint64_t i = 0; i < cases[0]; ++i)
    compared(cases[2 + i], value, static_cast<std::uint8_t>(cases[1] / 8));
}
void __sanitizer_cov_trace_cmpf(float, float) {}
void __sanitizer_cov_trace_cmpd(double, double) {}
}
