// Rows in large slabs, weights and optimizer state side by side: a row has a number, and never moves.
//
// Where weights fill whole cache lines but the row does not (row-wise Adagrad has one float of state), a row
// in itself would lie across one line more. There the weights of 16 rows come first, then the state of each.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "persia/huge_memory.h"

namespace persia {

class RowSlabs {
 public:
  // `most` rows at the most: memory behind them is not taken.
  RowSlabs(std::size_t weight_bytes, std::size_t state_bytes, std::uint64_t most)
      : most_(most),
        weight_bytes_(weight_bytes),
        state_bytes_(state_bytes),
        group_shift_(weight_bytes % kCacheLine == 0 && state_bytes % kCacheLine != 0 ? kGroupShift : 0),
        row_bytes_(weight_bytes + state_bytes),
        slab_shift_(shift_for(row_bytes())),
        slab_mask_((std::uint32_t{1} << slab_shift_) - 1) {}

  std::byte* weights(std::uint32_t number) const {
    return group_of(number) + member_of(number) * weight_bytes_;
  }
  float* state(std::uint32_t number) const {
    return reinterpret_cast<float*>(group_of(number) + (weight_bytes_ << group_shift_) +
                                    member_of(number) * state_bytes_);
  }
  // Memory for rows 0 to `rows` - 1. Throws std::bad_alloc.
  void reserve(std::size_t rows) {
    while (slabs_.size() << slab_shift_ < rows) {
      const std::uint64_t before = std::uint64_t{slabs_.size()} << slab_shift_;
      const std::uint64_t held = std::min(std::uint64_t{1} << slab_shift_, most_ - before);
      // A table of few rows takes no huge page, and one that is full none for a part of it.
      const std::size_t from = slabs_.empty() ? HugeMemory::kHugePage : 0;
      slabs_.emplace_back(row_bytes() << slab_shift_, from, static_cast<std::size_t>(held) * row_bytes());
    }
  }
  // The memory of `rows` rows from the first on, in pieces that each hold one row, or the 16 that lie
  // together.
  std::uint64_t pieces(std::uint64_t rows) const {
    return (rows + (std::uint64_t{1} << group_shift_) - 1) >> group_shift_;
  }
  std::uint64_t piece_bytes() const { return std::uint64_t{row_bytes_} << group_shift_; }
  // From piece `first` on as many of `count` as lie one behind the other.
  std::span<std::byte> run(std::uint64_t first, std::uint64_t count) const {
    const std::uint64_t row = first << group_shift_;
    const std::uint64_t within = row & slab_mask_;
    const std::uint64_t left = (std::uint64_t{slab_mask_} + 1 - within) >> group_shift_;
    return {slabs_[row >> slab_shift_].data() + within * row_bytes_, std::min(count, left) * piece_bytes()};
  }
  std::size_t weight_bytes() const { return weight_bytes_; }
  std::size_t state_bytes() const { return state_bytes_; }
  std::size_t row_bytes() const { return row_bytes_; }

  static constexpr std::size_t kCacheLine = 64;

 private:
  std::size_t member_of(std::uint32_t number) const {
    return number & ((std::uint32_t{1} << group_shift_) - 1);
  }
  std::byte* group_of(std::uint32_t number) const {
    const std::size_t within = number & slab_mask_;
    return slabs_[number >> slab_shift_].data() + (within - member_of(number)) * row_bytes_;
  }

  static constexpr std::size_t kSlabBytes = std::size_t{32} << 20;
  static constexpr std::size_t kMostSlabBytes = std::size_t{512} << 20;
  static constexpr unsigned kGroupShift = 4;
  // So many rows that they fill whole huge pages, if that is possible: what is left of one is lost.
  static unsigned shift_for(std::size_t row_bytes) {
    const auto shift = [&](std::size_t bytes) {
      return static_cast<unsigned>(
          std::bit_width(std::max(bytes / row_bytes, std::size_t{1} << kGroupShift)) - 1);
    };
    const int whole = std::countr_zero(HugeMemory::kHugePage) - std::countr_zero(row_bytes);
    const unsigned enough = std::max(shift(kSlabBytes), static_cast<unsigned>(std::max(whole, 0)));
    return std::min(enough, shift(kMostSlabBytes));
  }
  std::uint64_t most_;
  std::size_t weight_bytes_;
  std::size_t state_bytes_;
  unsigned group_shift_;
  std::size_t row_bytes_;
  unsigned slab_shift_;
  std::uint32_t slab_mask_;
  std::vector<HugeMemory> slabs_;
};

}  // namespace persia
