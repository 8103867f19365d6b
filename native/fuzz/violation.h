// What a fuzz target asserts of the product: a violation ends the process, which the engine reports.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace persia::fuzz {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: violated: %s\n", what);
  std::abort();
}

}  // namespace persia::fuzz
