// Gradients of the same id become one, so that an optimizer takes one step per id.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "persia/id_index.h"

namespace persia {

// Valid until the summer is used again, and as long as what was added to it.
struct GradientSum {
  std::span<const std::uint64_t> ids;       // distinct, in order of first appearance
  std::span<const float* const> gradients;  // of each id, [dim]: its only one, or the float32 sum in order
  std::span<const float> sums;              // those of them that were made here, one behind the other
};

// The gradient of ids[i] is row places[i] of `gradients` [*, dim], or row i if there are no places.
struct GradientSource {
  std::span<const std::uint64_t> ids;
  std::span<const float> gradients;
  std::span<const std::uint32_t> places;
};

// Keeps its memory from use to use, and nothing else.
class GradientSummer {
 public:
  explicit GradientSummer(std::uint32_t dim) : dim_(dim) {}
  // Adds up the gradients of each id, one source after another.
  GradientSum sum(std::span<const GradientSource> sources);

 private:
  void add_to(std::uint32_t position, const float* gradient);

  std::uint32_t dim_;
  IdIndex index_;
  std::vector<const float*> gradients_;
  std::vector<std::uint32_t> sum_of_;  // of each id: which of sums_, or kNone
  std::vector<std::uint32_t> summed_;  // of each sum: the position of its id
  std::vector<float> sums_;
};

bool all_finite(std::span<const float> values);

}  // namespace persia
