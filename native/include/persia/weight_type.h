// How weights lie in memory and in a checkpoint: float32, or rounded to one of the 16-bit types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "persia/table_spec.h"

namespace persia {

// What the random bits of one row at one step begin with: a pure function of all three.
struct RoundingKey {
  std::uint32_t start;
  std::uint32_t mask;
};
RoundingKey rounding_key(std::uint64_t seed, std::uint64_t id, std::uint64_t step);

// The weights of a row: `dim` elements from the start of its memory, which is aligned to 4 bytes.
//
// A 16-bit element is never infinite or NaN. What is beyond the largest finite number becomes that one;
// a NaN leaves the element as it was. Both are counted: write_*() return how many there were.
class RowWeights {
 public:
  RowWeights(WeightType type, std::uint32_t dim) : type_(type), dim_(dim) {}
  bool is_float32() const { return type_ == WeightType::kFloat32; }
  // Of the elements, without what fills them up.
  std::size_t bytes() const { return (is_float32() ? std::size_t{4} : std::size_t{2}) * dim_; }
  void read(const std::byte* row, float* to) const;
  // To the nearest number, to the even one of two.
  std::size_t write_nearest(std::byte* row, const float* from) const;
  // To one of the two numbers beside it, so that the expectation is what was given (see docs/formats/wire.md,
  // "Weight types").
  std::size_t write_stochastic(std::byte* row, const float* from, RoundingKey key) const;

 private:
  WeightType type_;
  std::uint32_t dim_;
};

}  // namespace persia
