// Bit arithmetic on the exponents and mantissas of IEEE 754, in loops that the compiler can vectorise.
#include "persia/weight_type.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "persia/ids.h"
#include "persia/multiversion.h"

namespace persia {
namespace {

constexpr std::uint64_t kSalt = 0x5C0A571C5C0A571CULL;  // unlike what initial rows and admission are made by
constexpr std::uint64_t kGolden64 = 0x9E3779B97F4A7C15ULL;
constexpr std::uint32_t kGolden32 = 0x9E3779B9U;

constexpr std::uint32_t kMagnitude = 0x7FFFFFFF;
constexpr std::uint32_t kInfinity = 0x7F800000;
constexpr std::uint32_t kHalfShift = 13;           // bits of a float32 that a normal float16 lacks
constexpr std::uint32_t kHalfBias = 112U << 23;    // between the exponents of the two
constexpr std::uint32_t kHalfNormal = 113U << 23;  // the smallest float16 that is not subnormal
constexpr std::uint32_t kHalfInfinity = 0x7C00;
constexpr std::uint32_t kBfloatInfinity = 0x7F80;

inline std::uint32_t bits_of(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

// A multiplicative hash of a counter (lowbias32 of C. Wellons), so that elements do not wait for each other.
inline std::uint32_t random_bits(RoundingKey key, std::uint32_t element) {
  std::uint32_t x = key.start + (element + 1) * kGolden32;
  x = (x ^ (x >> 16)) * 0x7FEB352DU;
  x = (x ^ (x >> 15)) * 0x846CA68BU;
  return x ^ (x >> 16) ^ key.mask;
}

// A positive float32 below the normal numbers of float16 is mantissa * 2^-24 / 2^dropped. Of more than 31
// dropped bits, those beyond are cut off.
struct Subnormal {
  std::uint32_t mantissa;
  std::uint32_t dropped;  // 14 to 31
};

inline Subnormal subnormal_of(std::uint32_t magnitude) {
  const std::uint32_t dropped = 126 - std::min(magnitude >> 23, 112U);
  const std::uint32_t beyond = std::min(std::max(dropped, 31U) - 31U, 31U);
  return {((magnitude & 0x7FFFFF) | 0x800000) >> beyond, std::min(dropped, 31U)};
}

// By masks: a branch on it keeps the compiler from vectorising.
inline std::uint32_t half_of(std::uint32_t magnitude, std::uint32_t subnormal, std::uint32_t normal) {
  const std::uint32_t is_subnormal = 0U - ((magnitude - kHalfNormal) >> 31);
  return (subnormal & is_subnormal) | (normal & ~is_subnormal);
}

// `rounded` is the magnitude without bounds: beyond the largest finite number it is that one.
inline std::uint16_t finish(std::uint32_t bits, std::uint32_t rounded, std::uint32_t infinity,
                            std::uint16_t before, std::uint32_t& saturated) {
  saturated += (infinity - 1 - rounded) >> 31;  // 1 if it is beyond; a condition would not be vectorised
  const std::uint32_t value = std::min(rounded, infinity - 1) | ((bits >> 16) & 0x8000);
  return (bits & kMagnitude) > kInfinity ? before : static_cast<std::uint16_t>(value);
}

PERSIA_MULTIVERSION
void widen_bfloat16(const std::uint16_t* __restrict from, float* __restrict to, std::uint32_t dim) {
  for (std::uint32_t i = 0; i < dim; ++i) to[i] = std::bit_cast<float>(std::uint32_t{from[i]} << 16);
}

PERSIA_MULTIVERSION
void widen_float16(const std::uint16_t* __restrict from, float* __restrict to, std::uint32_t dim) {
  for (std::uint32_t i = 0; i < dim; ++i) {
    const std::uint32_t magnitude = from[i] & 0x7FFFU;
    const std::uint32_t rebias = magnitude >= kHalfInfinity ? 2 * kHalfBias : kHalfBias;
    const std::uint32_t normal = (magnitude << kHalfShift) + rebias;
    const std::uint32_t subnormal =
        bits_of(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f);
    const std::uint32_t value = magnitude < 0x400 ? subnormal : normal;
    to[i] = std::bit_cast<float>(value | ((from[i] & 0x8000U) << 16));
  }
}

PERSIA_MULTIVERSION
std::size_t nearest_bfloat16(const float* __restrict from, std::uint16_t* __restrict to, std::uint32_t dim) {
  std::uint32_t saturated = 0;
  for (std::uint32_t i = 0; i < dim; ++i) {
    const std::uint32_t bits = bits_of(from[i]);
    const std::uint32_t magnitude = bits & kMagnitude;
    const std::uint32_t rounded = (magnitude + 0x7FFF + ((magnitude >> 16) & 1)) >> 16;
    to[i] = finish(bits, rounded, kBfloatInfinity, to[i], saturated);
  }
  return saturated;
}

PERSIA_MULTIVERSION
std::size_t stochastic_bfloat16(const float* __restrict from, RoundingKey key, std::uint16_t* __restrict to,
                                std::uint32_t dim) {
  std::uint32_t saturated = 0;
  for (std::uint32_t i = 0; i < dim; ++i) {
    const std::uint32_t bits = bits_of(from[i]);
    const std::uint32_t rounded = ((bits & kMagnitude) + (random_bits(key, i) >> 16)) >> 16;
    to[i] = finish(bits, rounded, kBfloatInfinity, to[i], saturated);
  }
  return saturated;
}

PERSIA_MULTIVERSION
std::size_t nearest_float16(const float* __restrict from, std::uint16_t* __restrict to, std::uint32_t dim) {
  std::uint32_t saturated = 0;
  for (std::uint32_t i = 0; i < dim; ++i) {
    const std::uint32_t bits = bits_of(from[i]);
    const std::uint32_t magnitude = bits & kMagnitude;
    const std::uint32_t exact = magnitude - kHalfBias;
    const std::uint32_t normal = (exact + 0xFFF + ((exact >> kHalfShift) & 1)) >> kHalfShift;
    const auto [mantissa, dropped] = subnormal_of(magnitude);
    const std::uint32_t half = (1U << (dropped - 1)) - 1;
    const std::uint32_t subnormal = (mantissa + half + ((mantissa >> dropped) & 1)) >> dropped;
    to[i] = finish(bits, half_of(magnitude, subnormal, normal), kHalfInfinity, to[i], saturated);
  }
  return saturated;
}

PERSIA_MULTIVERSION
std::size_t stochastic_float16(const float* __restrict from, RoundingKey key, std::uint16_t* __restrict to,
                               std::uint32_t dim) {
  std::uint32_t saturated = 0;
  for (std::uint32_t i = 0; i < dim; ++i) {
    const std::uint32_t bits = bits_of(from[i]);
    const std::uint32_t magnitude = bits & kMagnitude;
    const std::uint32_t random = random_bits(key, i);
    const std::uint32_t normal = (magnitude - kHalfBias + (random >> (32 - kHalfShift))) >> kHalfShift;
    const auto [mantissa, dropped] = subnormal_of(magnitude);
    const std::uint32_t subnormal = (mantissa + (random >> (32 - dropped))) >> dropped;
    to[i] = finish(bits, half_of(magnitude, subnormal, normal), kHalfInfinity, to[i], saturated);
  }
  return saturated;
}

}  // namespace

RoundingKey rounding_key(std::uint64_t seed, std::uint64_t id, std::uint64_t step) {
  const std::uint64_t bits = mix64(mix64(id ^ mix64(seed ^ kSalt)) + (step + 1) * kGolden64);
  return {static_cast<std::uint32_t>(bits), static_cast<std::uint32_t>(bits >> 32)};
}

void RowWeights::read(const std::byte* row, float* to) const {
  const auto* narrow = reinterpret_cast<const std::uint16_t*>(row);
  switch (type_) {
    case WeightType::kFloat32: std::memcpy(to, row, dim_ * sizeof(float)); return;
    case WeightType::kBfloat16: widen_bfloat16(narrow, to, dim_); return;
    case WeightType::kFloat16: widen_float16(narrow, to, dim_); return;
  }
}

std::size_t RowWeights::write_nearest(std::byte* row, const float* from) const {
  auto* narrow = reinterpret_cast<std::uint16_t*>(row);
  switch (type_) {
    case WeightType::kFloat32: std::memcpy(row, from, dim_ * sizeof(float)); return 0;
    case WeightType::kBfloat16: return nearest_bfloat16(from, narrow, dim_);
    case WeightType::kFloat16: return nearest_float16(from, narrow, dim_);
  }
  return 0;
}

std::size_t RowWeights::write_stochastic(std::byte* row, const float* from, RoundingKey key) const {
  auto* narrow = reinterpret_cast<std::uint16_t*>(row);
  switch (type_) {
    case WeightType::kFloat32: std::memcpy(row, from, dim_ * sizeof(float)); return 0;
    case WeightType::kBfloat16: return stochastic_bfloat16(from, key, narrow, dim_);
    case WeightType::kFloat16: return stochastic_float16(from, key, narrow, dim_);
  }
  return 0;
}

}  // namespace persia
