#include "persia/wire_values.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "persia/gradient_sum.h"
#include "persia/weight_type.h"

namespace persia {
namespace {

constexpr std::uint16_t kSign = 0x8000;
constexpr std::uint16_t kHalfInfinity = 0x7C00;
constexpr std::uint16_t kHalfNan = 0x7E00;
constexpr std::uint16_t kHalfTop = 0x7400;   // 2^14: where the largest element of a row comes to lie
constexpr std::uint16_t kHalfMost = 0x77FF;  // the largest below 2^15
constexpr std::uint16_t kBfloatInfinity = 0x7F80;
constexpr std::uint16_t kBfloatNan = 0x7FC0;
constexpr int kTopExponent = 14;
constexpr int kLeastScale = -125;  // exponents: 2^-125 times any float16 is a float32 without rounding
constexpr int kMostScale = 113;

using Row16 = std::array<std::uint16_t, kMaxDim>;

std::byte* bytes_of(Row16& row) {
  return reinterpret_cast<std::byte*>(row.data());
}

std::uint16_t magnitude_of(std::uint16_t value) {
  return static_cast<std::uint16_t>(value & ~kSign);
}

// Infinities and NaN of `row` stay what they are.
void mark_not_finite(std::span<const float> row, std::uint16_t infinity, std::uint16_t nan, Row16& to) {
  if (all_finite(row)) return;
  for (std::size_t j = 0; j < row.size(); ++j) {
    if (std::isnan(row[j])) to[j] = nan;
    if (std::isinf(row[j])) to[j] = static_cast<std::uint16_t>(infinity | (row[j] < 0 ? kSign : 0));
  }
}

// Of the largest finite magnitude after rounding it to the 11 bits of a float16: the scale that takes it to
// at least 2^14 and below 2^15.
int scale_exponent(std::span<const float> row) {
  float most = 0;
  for (const float value : row) most = std::max(most, std::isfinite(value) ? std::fabs(value) : 0.0f);
  if (most == 0) return kLeastScale;
  int exponent = 0;
  const float mantissa = std::frexp(most, &exponent);  // [0.5, 1)
  if (mantissa * 2048.0f >= 2047.5f) ++exponent;       // rounds up to a power of two
  return std::clamp(exponent - 1 - kTopExponent, kLeastScale, kMostScale);
}

float power_of_two(int exponent) {
  return std::ldexp(1.0f, exponent);
}

float write_float16(std::span<const float> row, Row16& to) {
  const int exponent = scale_exponent(row);
  const float inverse = power_of_two(-exponent);
  std::array<float, kMaxDim> scaled;
  for (std::size_t j = 0; j < row.size(); ++j) scaled[j] = row[j] * inverse;
  const auto dim = static_cast<std::uint32_t>(row.size());
  RowWeights(WeightType::kFloat16, dim).write_nearest(bytes_of(to), scaled.data());
  for (std::size_t j = 0; j < row.size(); ++j) {
    // 2^128 is no float32: what would round to it stays below.
    const std::uint16_t magnitude = std::min(magnitude_of(to[j]), kHalfMost);
    to[j] = static_cast<std::uint16_t>((to[j] & kSign) | magnitude);
  }
  mark_not_finite(row, kHalfInfinity, kHalfNan, to);
  return power_of_two(exponent);
}

void write_bfloat16(std::span<const float> row, Row16& to) {
  RowWeights(WeightType::kBfloat16, static_cast<std::uint32_t>(row.size()))
      .write_nearest(bytes_of(to), row.data());
  mark_not_finite(row, kBfloatInfinity, kBfloatNan, to);
}

// Every row has one spelling, so that nothing can hide in it.
void check_float16(std::span<const std::uint16_t> row, float scale) {
  std::uint16_t most = 0;
  for (const std::uint16_t value : row) {
    const std::uint16_t magnitude = magnitude_of(value);
    if (magnitude < kHalfInfinity) {
      most = std::max(most, magnitude);
    } else if (magnitude > kHalfInfinity && value != kHalfNan) {
      Reader::fail("a value is not a number, and not the one that stands for it");
    }
  }
  const int exponent = std::isfinite(scale) && scale > 0 ? std::ilogb(scale) : kMostScale + 1;
  const bool is_scale = exponent >= kLeastScale && exponent <= kMostScale && scale == power_of_two(exponent);
  if (!is_scale) Reader::fail("the scale of a row is not a power of two from 2^-125 to 2^113");
  if (most > kHalfMost || (most < kHalfTop && exponent > kLeastScale))
    Reader::fail("a row has not the scale that belongs to its largest value");
}

void check_bfloat16(std::span<const std::uint16_t> row) {
  for (const std::uint16_t value : row) {
    if (magnitude_of(value) > kBfloatInfinity && value != kBfloatNan)
      Reader::fail("a value is not a number, and not the one that stands for it");
  }
}

}  // namespace

std::uint64_t wire_row_bytes(WeightType values, std::uint32_t dim) {
  switch (values) {
    case WeightType::kBfloat16: return 2 * std::uint64_t{dim};
    case WeightType::kFloat16: return 4 + 2 * std::uint64_t{dim};
    default: return 4 * std::uint64_t{dim};
  }
}

void write_rows(Writer& writer, WeightType values, std::uint32_t dim, std::span<const float> rows) {
  if (values == WeightType::kFloat32) {
    writer.array(rows);
    return;
  }
  Row16 narrow{};
  for (std::size_t at = 0; at < rows.size(); at += dim) {
    const std::span<const float> row = rows.subspan(at, dim);
    if (values == WeightType::kFloat16) {
      writer.value(write_float16(row, narrow));
    } else {
      write_bfloat16(row, narrow);
    }
    writer.array(std::span<const std::uint16_t>(narrow.data(), dim));
  }
}

Floats read_rows(Reader& reader, WeightType values, std::uint64_t rows, std::uint32_t dim) {
  if (values == WeightType::kFloat32) return reader.floats(rows * dim);
  if (rows > reader.rest() / wire_row_bytes(values, dim)) Reader::fail("an array reaches beyond the end");
  std::vector<float> wide(rows * dim);
  const RowWeights weights(values, dim);
  Row16 narrow{};
  for (std::uint64_t r = 0; r < rows; ++r) {
    const float scale = values == WeightType::kFloat16 ? reader.value<float>() : 1.0f;
    reader.read_into(std::span(narrow).first(dim));
    if (values == WeightType::kFloat16) {
      check_float16(std::span(narrow).first(dim), scale);
    } else {
      check_bfloat16(std::span(narrow).first(dim));
    }
    float* row = wide.data() + r * dim;
    weights.read(bytes_of(narrow), row);
    if (values == WeightType::kFloat16) {
      for (std::uint32_t j = 0; j < dim; ++j) row[j] *= scale;
    }
  }
  return wide;
}

}  // namespace persia
