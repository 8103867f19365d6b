// FTRL-proximal, per coordinate (McMahan et al. 2013, "Ad click prediction: a view from the trenches"):
//   s = (sqrt(n + g * g) - sqrt(n)) / learning_rate;  z += g - s * w;  n += g * g
//   w = 0 if |z| <= l1 else -(z - sign(z) * l1) / ((beta + sqrt(n)) / learning_rate + l2)
// State: z from 0, then n from initial_accumulator, one float per weight each. As there, the first step
// replaces the initial weight: of it, only s * w stays.
// The weights are a function of z, n and the learning rate of the step, so a changed rate rescales them. With
// a rate of 0, or too small for float32, there is no such function: then the row takes no step.
#include <algorithm>
#include <cmath>
#include <limits>

#include "persia/multiversion.h"
#include "persia/optimizer.h"

namespace persia {
namespace {

struct FtrlOptions {
  float learning_rate;
  float beta;
  float l1;
  float l2;
};

PERSIA_MULTIVERSION
void ftrl_steps(std::span<const RowStep> rows, std::size_t dim, FtrlOptions options) {
  for (const RowStep& each : rows) {
    float* __restrict weights = each.weights;
    float* __restrict z = each.state;
    float* __restrict n = each.state + dim;
    const float* __restrict gradient = each.gradient;
    for (std::size_t i = 0; i < dim; ++i) {
      const float g = gradient[i];
      const float sum = n[i] + g * g;
      const float root = std::sqrt(sum);
      z[i] += g - (root - std::sqrt(n[i])) / options.learning_rate * weights[i];
      n[i] = sum;
      const float shrunk = std::max(std::fabs(z[i]) - options.l1, 0.0f);
      // 0 / 0 where no gradient but 0 was ever seen and nothing regularises.
      const float divisor = (options.beta + root) / options.learning_rate + options.l2;
      weights[i] = shrunk > 0 ? -std::copysign(shrunk, z[i]) / divisor : 0.0f;
    }
  }
}

class Ftrl final : public Optimizer {
 public:
  Ftrl(const OptimizerSpec& spec, std::uint32_t dim)
      : dim_(dim),
        initial_accumulator_(static_cast<float>(spec.initial_accumulator)),
        learning_rate_(spec.learning_rate),
        beta_(static_cast<float>(spec.beta)),
        l1_(static_cast<float>(spec.l1)),
        l2_(static_cast<float>(spec.l2)) {}
  std::uint32_t state_dim() const override { return 2 * dim_; }
  void initialise(std::span<float> state) const override {
    std::fill_n(state.begin(), dim_, 0.0f);
    std::fill(state.begin() + dim_, state.end(), initial_accumulator_);
  }
  void step(std::span<const RowStep> rows, double learning_rate_factor) const override {
    const auto rate = static_cast<float>(learning_rate_ * learning_rate_factor);
    if (rate < std::numeric_limits<float>::min()) return;
    ftrl_steps(rows, dim_, {rate, beta_, l1_, l2_});
  }

 private:
  std::uint32_t dim_;
  float initial_accumulator_;
  double learning_rate_;
  float beta_;
  float l1_;
  float l2_;
};

}  // namespace

std::unique_ptr<Optimizer> make_ftrl(const OptimizerSpec& spec, std::uint32_t dim) {
  return std::make_unique<Ftrl>(spec, dim);
}

}  // namespace persia
