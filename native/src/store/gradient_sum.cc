#include "persia/gradient_sum.h"

#include <algorithm>
#include <bit>

namespace persia {
namespace {

constexpr std::size_t kAhead = 16;
constexpr std::uint32_t kNone = 0xFFFFFFFF;

}  // namespace

GradientSum GradientSummer::sum(std::span<const GradientSource> sources) {
  std::size_t total = 0;
  for (const GradientSource& source : sources) total += source.ids.size();
  index_.clear(total);
  gradients_.clear();
  sum_of_.clear();
  summed_.clear();
  sums_.clear();
  for (const GradientSource& source : sources) {
    for (std::size_t i = 0; i < source.ids.size(); ++i) {
      if (i + kAhead < source.ids.size()) index_.prefetch(source.ids[i + kAhead]);
      const std::size_t place = source.places.empty() ? i : source.places[i];
      const float* gradient = source.gradients.data() + place * dim_;
      const auto [position, is_new] = index_.insert(source.ids[i]);
      if (is_new) {
        gradients_.push_back(gradient);
        sum_of_.push_back(kNone);
      } else {
        add_to(position, gradient);
      }
    }
  }
  for (std::size_t s = 0; s < summed_.size(); ++s) gradients_[summed_[s]] = sums_.data() + s * dim_;
  return {index_.ids(), gradients_, sums_};
}

void GradientSummer::add_to(std::uint32_t position, const float* gradient) {
  if (sum_of_[position] == kNone) {
    sum_of_[position] = static_cast<std::uint32_t>(summed_.size());
    summed_.push_back(position);
    sums_.insert(sums_.end(), gradients_[position], gradients_[position] + dim_);
  }
  float* __restrict to = sums_.data() + std::size_t{sum_of_[position]} * dim_;
  for (std::uint32_t j = 0; j < dim_; ++j) to[j] += gradient[j];
}

bool all_finite(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7F800000;
  constexpr std::size_t kBlock = 1024;
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    std::uint32_t bad = 0;  // no early exit within a block, so that it can be vectorised
    for (const float value : values.subspan(begin, std::min(kBlock, values.size() - begin))) {
      bad |= (std::bit_cast<std::uint32_t>(value) & kExponent) == kExponent ? 1 : 0;
    }
    if (bad != 0) return false;
  }
  return true;
}

}  // namespace persia
