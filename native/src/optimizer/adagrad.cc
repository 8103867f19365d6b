// Adagrad (Duchi, Hazan, Singer 2011), per element:
//   a += g * g;  w -= learning_rate * g / (sqrt(a) + epsilon)
// State: a, one float per weight. Equals torch.optim.Adagrad with lr_decay 0 and weight_decay 0.
#include <algorithm>
#include <cmath>

#include "persia/multiversion.h"
#include "persia/optimizer.h"

namespace persia {
namespace {

PERSIA_MULTIVERSION
void adagrad_steps(std::span<const RowStep> rows, std::size_t dim, float learning_rate, float epsilon) {
  for (const RowStep& each : rows) {
    float* __restrict weights = each.weights;
    float* __restrict sums = each.state;
    const float* __restrict gradient = each.gradient;
    for (std::size_t i = 0; i < dim; ++i) {
      const float g = gradient[i];
      sums[i] += g * g;
      weights[i] -= learning_rate * g / (std::sqrt(sums[i]) + epsilon);
    }
  }
}

class Adagrad final : public Optimizer {
 public:
  Adagrad(const OptimizerSpec& spec, std::uint32_t dim)
      : dim_(dim),
        learning_rate_(spec.learning_rate),
        initial_accumulator_(static_cast<float>(spec.initial_accumulator)),
        epsilon_(static_cast<float>(spec.epsilon)) {}
  std::uint32_t state_dim() const override { return dim_; }
  void initialise(std::span<float> state) const override {
    std::fill(state.begin(), state.end(), initial_accumulator_);
  }
  void step(std::span<const RowStep> rows, double learning_rate_factor) const override {
    adagrad_steps(rows, dim_, static_cast<float>(learning_rate_ * learning_rate_factor), epsilon_);
  }

 private:
  std::uint32_t dim_;
  double learning_rate_;
  float initial_accumulator_;
  float epsilon_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adagrad(const OptimizerSpec& spec, std::uint32_t dim) {
  return std::make_unique<Adagrad>(spec, dim);
}

}  // namespace persia
