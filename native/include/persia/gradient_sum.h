// Gradients of the same id become one, so that an optimizer takes one step per id.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace persia {

struct GradientSum {
  std::vector<std::uint64_t> ids;  // distinct, in order of first appearance
  std::vector<float> gradients;    // [ids, dim], float32 sums in order of appearance
};

// Adds `gradients` [ids, dim] of each id, one source after another.
class GradientSummer {
 public:
  explicit GradientSummer(std::uint32_t dim) : dim_(dim) {}
  void add(std::span<const std::uint64_t> ids, std::span<const float> gradients);
  GradientSum finish();

 private:
  struct Source {
    std::span<const std::uint64_t> ids;
    std::span<const float> gradients;
  };
  std::uint32_t dim_;
  std::vector<Source> sources_;
};

bool all_finite(std::span<const float> values);

}  // namespace persia
