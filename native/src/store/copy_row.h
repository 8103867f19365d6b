// Weights of a row to where the caller wants them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "persia/weight_type.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace persia {

class RowCopier {
 public:
  // `to` is where all rows of the batch go, `bytes` in all.
  RowCopier(const float* to, std::size_t bytes, std::size_t dim, const RowWeights& weights)
      : dim_(dim),
        weights_(weights),
        streams_(bytes >= kStreamed && dim % 4 == 0 && is_aligned(to) && weights.is_float32()) {}

  void copy(float* to, const std::byte* row) const {
    if (!weights_.is_float32()) [[unlikely]] {
      weights_.read(row, to);
      return;
    }
    const auto* from = reinterpret_cast<const float*>(row);
#if defined(__SSE2__)
    if (streams_) {
      for (std::size_t i = 0; i < dim_; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
      return;
    }
#endif
    // Constant sizes become a few instructions; a call for 64 bytes costs more than the copying.
    switch (dim_) {
      case 8: std::memcpy(to, from, 8 * sizeof(float)); return;
      case 16: std::memcpy(to, from, 16 * sizeof(float)); return;
      case 32: std::memcpy(to, from, 32 * sizeof(float)); return;
      case 64: std::memcpy(to, from, 64 * sizeof(float)); return;
      default: std::memcpy(to, from, dim_ * sizeof(float)); return;
    }
  }
  // After the last copy.
  void finish() const {
#if defined(__SSE2__)
    if (streams_) _mm_sfence();
#endif
  }

 private:
  // What does not fit into a cache beside the rows is written past it: that saves reading it before.
  static constexpr std::size_t kStreamed = std::size_t{4} << 20;
  static bool is_aligned(const float* at) { return reinterpret_cast<std::uintptr_t>(at) % 16 == 0; }

  std::size_t dim_;
  const RowWeights& weights_;
  bool streams_;
};

}  // namespace persia
