#include "persia/initializer.h"

#include <algorithm>
#include <cmath>

#include "persia/ids.h"

namespace persia {
namespace {

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ULL;  // the increment of SplitMix64

}  // namespace

void initialise_weights(const InitializerSpec& spec, std::uint64_t seed, std::uint64_t id,
                        std::span<float> weights) {
  if (spec.kind == InitializerKind::kZeros) {
    std::fill(weights.begin(), weights.end(), 0.0f);
    return;
  }
  const auto high = static_cast<float>(spec.high);
  // Rounding to float32 may reach `high`, which the half-open interval excludes.
  const float below_high = std::nextafter(high, static_cast<float>(spec.low));
  const std::uint64_t start = mix64(id ^ mix64(seed));
  std::uint64_t counter = start;
  for (float& weight : weights) {
    counter += kGolden;
    const double fraction = static_cast<double>(mix64(counter) >> 40) * 0x1p-24;
    const auto value = static_cast<float>(spec.low + (spec.high - spec.low) * fraction);
    weight = value < high ? value : below_high;
  }
}

}  // namespace persia
