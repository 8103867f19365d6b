// Adam (Kingma, Ba 2015), with the number of steps counted per row:
//   t += 1;  m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g * g
//   w -= learning_rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
// State: m and v, one float per weight each, then t. Equals torch.optim.Adam of each row by itself: a row
// that has no gradient takes no step. As a float, t stays at 2^24, where both corrections have long been 1.
#include <algorithm>
#include <cmath>
#include <vector>

#include "persia/multiversion.h"
#include "persia/optimizer.h"

namespace persia {
namespace {

constexpr std::size_t kTabled = 4096;

struct Correction {
  double rest;  // 1 - beta1^t
  float root;   // sqrt(1 - beta2^t)
};

struct AdamOptions {
  float beta1;
  float rest1;
  float beta2;
  float rest2;
  float epsilon;
};

struct AdamStep {
  float rate;  // learning_rate / (1 - beta1^t)
  float root;
};

PERSIA_MULTIVERSION
void adam_step(const RowStep& each, std::size_t dim, AdamOptions options, AdamStep step) {
  float* __restrict weights = each.weights;
  float* __restrict m = each.state;
  float* __restrict v = each.state + dim;
  const float* __restrict gradient = each.gradient;
  for (std::size_t i = 0; i < dim; ++i) {
    const float g = gradient[i];
    m[i] = options.beta1 * m[i] + options.rest1 * g;
    v[i] = options.beta2 * v[i] + options.rest2 * (g * g);
    weights[i] -= step.rate * m[i] / (std::sqrt(v[i]) / step.root + options.epsilon);
  }
}

class Adam final : public Optimizer {
 public:
  Adam(const OptimizerSpec& spec, std::uint32_t dim)
      : spec_(spec),
        dim_(dim),
        options_{static_cast<float>(spec.beta1), static_cast<float>(1 - spec.beta1),
                 static_cast<float>(spec.beta2), static_cast<float>(1 - spec.beta2),
                 static_cast<float>(spec.epsilon)} {
    tabled_.reserve(kTabled);
    for (std::size_t t = 0; t < kTabled; ++t) tabled_.push_back(correction(static_cast<double>(t)));
  }
  std::uint32_t state_dim() const override { return 2 * dim_ + 1; }
  void initialise(std::span<float> state) const override { std::fill(state.begin(), state.end(), 0.0f); }
  void step(std::span<const RowStep> rows, double learning_rate_factor) const override {
    const double learning_rate = spec_.learning_rate * learning_rate_factor;
    for (const RowStep& each : rows) {
      float& t = each.state[2 * std::size_t{dim_}];
      t += 1;
      const bool is_tabled = t > 0 && t < static_cast<float>(kTabled);
      const Correction at_t = is_tabled ? tabled_[static_cast<std::size_t>(t)] : correction(t);
      adam_step(each, dim_, options_, {static_cast<float>(learning_rate / at_t.rest), at_t.root});
    }
  }

 private:
  Correction correction(double t) const {
    return {1 - std::pow(spec_.beta1, t), static_cast<float>(std::sqrt(1 - std::pow(spec_.beta2, t)))};
  }

  OptimizerSpec spec_;
  std::uint32_t dim_;
  AdamOptions options_;
  std::vector<Correction> tabled_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adam(const OptimizerSpec& spec, std::uint32_t dim) {
  return std::make_unique<Adam>(spec, dim);
}

}  // namespace persia
