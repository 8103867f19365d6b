// What the memory allows: rows at known places are read, or read and written, and nothing else is done.
// No index, no gradient, no result, no optimizer.
#include <cstdint>

#include "huge_buffer.h"

namespace persia::bench {
namespace {

class Rows {
 public:
  Rows(std::uint64_t rows, std::uint32_t row_floats)
      : row_floats_(row_floats), rows_(static_cast<std::size_t>(rows) * row_floats) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows) * row_floats; ++i) rows_[i] = 1.0f;
  }

  // The sum of the first `floats` of each row, so that no read can be left out.
  float read(const std::int64_t* at, std::size_t n, std::size_t floats) const {
    float sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kAhead < n) prefetch<false>(row(at[i + kAhead]), floats);
      const float* here = row(at[i]);
      for (std::size_t j = 0; j < floats; ++j) sum += here[j];
    }
    return sum;
  }

  void read_write(const std::int64_t* at, std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kAhead < n) prefetch<true>(row(at[i + kAhead]), row_floats_);
      float* here = row(at[i]);
      for (std::size_t j = 0; j < row_floats_; ++j) here[j] += 1.0f;
    }
  }

 private:
  float* row(std::int64_t r) const { return rows_.data() + static_cast<std::size_t>(r) * row_floats_; }

  std::uint32_t row_floats_;
  HugeBuffer<float> rows_;
};

}  // namespace
}  // namespace persia::bench

using persia::bench::Rows;

extern "C" {

void* limit_new(std::uint64_t rows, std::uint32_t row_floats) {
  return new Rows(rows, row_floats);
}
void limit_free(void* rows) {
  delete static_cast<Rows*>(rows);
}
float limit_read(void* rows, const std::int64_t* at, std::uint64_t n, std::uint32_t floats) {
  return static_cast<Rows*>(rows)->read(at, n, floats);
}
void limit_read_write(void* rows, const std::int64_t* at, std::uint64_t n) {
  static_cast<Rows*>(rows)->read_write(at, n);
}
}
