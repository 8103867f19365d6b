#include "persia/gradient_sum.h"

#include <algorithm>
#include <cmath>

#include "persia/id_index.h"

namespace persia {

void GradientSummer::add(std::span<const std::uint64_t> ids, std::span<const float> gradients) {
  sources_.push_back({ids, gradients});
}

GradientSum GradientSummer::finish() {
  std::size_t total = 0;
  for (const Source& source : sources_) total += source.ids.size();
  IdIndex index(total);
  GradientSum sum;
  sum.ids.reserve(total);
  sum.gradients.reserve(total * dim_);
  for (const Source& source : sources_) {
    for (std::size_t i = 0; i < source.ids.size(); ++i) {
      const std::span<const float> gradient = source.gradients.subspan(i * dim_, dim_);
      const auto [position, is_new] = index.insert(source.ids[i]);
      if (is_new) {
        sum.ids.push_back(source.ids[i]);
        sum.gradients.insert(sum.gradients.end(), gradient.begin(), gradient.end());
      } else {
        float* to = sum.gradients.data() + std::size_t{position} * dim_;
        for (std::uint32_t j = 0; j < dim_; ++j) to[j] += gradient[j];
      }
    }
  }
  sources_.clear();
  return sum;
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace persia
