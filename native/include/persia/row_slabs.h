// Rows of one width in large slabs: a row has a number, and never moves.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "persia/huge_memory.h"

namespace persia {

class RowSlabs {
 public:
  explicit RowSlabs(std::size_t row_floats)
      : row_floats_(row_floats),
        shift_(static_cast<unsigned>(std::bit_width(std::max<std::size_t>(kSlabBytes / (row_floats * 4), 1)) -
                                     1)) {}

  float* row(std::uint32_t number) const {
    const std::size_t mask = (std::size_t{1} << shift_) - 1;
    return reinterpret_cast<float*>(slabs_[number >> shift_].data()) + (number & mask) * row_floats_;
  }
  // Memory for rows 0 to `rows` - 1. Throws std::bad_alloc.
  void reserve(std::size_t rows) {
    while (slabs_.size() << shift_ < rows) {
      // A table of few rows takes no huge page.
      const std::size_t small = slabs_.empty() ? HugeMemory::kHugePage : 0;
      slabs_.emplace_back((row_floats_ * 4) << shift_, small);
    }
  }
  std::size_t row_bytes() const { return row_floats_ * 4; }

 private:
  static constexpr std::size_t kSlabBytes = std::size_t{32} << 20;
  std::size_t row_floats_;
  unsigned shift_;
  std::vector<HugeMemory> slabs_;
};

}  // namespace persia
