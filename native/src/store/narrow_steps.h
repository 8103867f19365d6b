// Optimizer steps on rows of 16-bit weights: in float32, between reading a row and rounding it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "persia/weight_type.h"

namespace persia {

class NarrowSteps {
 public:
  // At most `most` rows at once.
  NarrowSteps(const RowWeights& weights, std::uint64_t seed, std::uint64_t step, std::size_t dim,
              std::size_t most)
      : weights_(weights), seed_(seed), step_(step), dim_(dim) {
    if (weights.is_float32()) return;
    rows_.reserve(most);
    wide_.resize(most * dim);
  }
  // The weights in float32, of which write_back() makes those of the row.
  float* widen(std::uint64_t id, std::byte* row) {
    float* wide = wide_.data() + rows_.size() * dim_;
    weights_.read(row, wide);
    rows_.push_back({id, row});
    return wide;
  }
  // How many elements their type cannot hold.
  std::size_t write_back() {
    std::size_t saturated = 0;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const auto [id, row] = rows_[i];
      saturated += weights_.write_stochastic(row, wide_.data() + i * dim_, rounding_key(seed_, id, step_));
    }
    rows_.clear();
    return saturated;
  }

 private:
  struct Row {
    std::uint64_t id;
    std::byte* row;
  };
  const RowWeights& weights_;
  std::uint64_t seed_;
  std::uint64_t step_;
  std::size_t dim_;
  std::vector<Row> rows_;
  std::vector<float> wide_;
};

}  // namespace persia
