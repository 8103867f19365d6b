#include "persia/initializer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "persia/ids.h"

namespace persia {
namespace {

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ULL;  // the increment of SplitMix64

void fill_uniform(double low, double high, std::uint64_t start, std::span<float> weights) {
  const auto narrow_high = static_cast<float>(high);
  // Rounding to float32 may reach `high`, which the half-open interval excludes.
  const float below_high = std::nextafter(narrow_high, static_cast<float>(low));
  std::uint64_t counter = start;
  for (float& weight : weights) {
    counter += kGolden;
    const double fraction = static_cast<double>(mix64(counter) >> 40) * 0x1p-24;
    const auto value = static_cast<float>(low + (high - low) * fraction);
    weight = value < narrow_high ? value : below_high;
  }
}

void fill_normal(double mean, double std, std::uint64_t start, std::span<float> weights) {
  std::uint64_t counter = start;
  const auto next = [&] {
    counter += kGolden;
    return static_cast<double>(mix64(counter) >> 11) * 0x1p-53;
  };
  for (float& weight : weights) {
    const double radius = std::sqrt(-2 * std::log1p(-next()));
    weight = static_cast<float>(mean + std * radius * std::cos(2 * std::numbers::pi * next()));
  }
}

}  // namespace

void initialise_weights(const InitializerSpec& spec, std::uint64_t seed, std::uint64_t id,
                        std::span<float> weights) {
  const std::uint64_t start = mix64(id ^ mix64(seed));
  switch (spec.kind) {
    case InitializerKind::kZeros: std::fill(weights.begin(), weights.end(), 0.0f); return;
    case InitializerKind::kUniform: fill_uniform(spec.low, spec.high, start, weights); return;
    case InitializerKind::kNormal: fill_normal(spec.mean, spec.std, start, weights); return;
    case InitializerKind::kScaledUniform: {
      const double bound = spec.scale / std::sqrt(static_cast<double>(weights.size()));
      fill_uniform(-bound, bound, start, weights);
      return;
    }
  }
}

}  // namespace persia
