// Adagrad (Duchi, Hazan, Singer 2011), per element:
//   a += g * g;  w -= learning_rate * g / (sqrt(a) + epsilon)
// State: a, one float per weight. Equals torch.optim.Adagrad with lr_decay 0 and weight_decay 0.
#include <algorithm>
#include <cmath>

#include "persia/optimizer.h"

namespace persia {
namespace {

class Adagrad final : public Optimizer {
 public:
  Adagrad(const OptimizerSpec& spec, std::uint32_t dim)
      : dim_(dim),
        learning_rate_(static_cast<float>(spec.learning_rate)),
        initial_accumulator_(static_cast<float>(spec.initial_accumulator)),
        epsilon_(static_cast<float>(spec.epsilon)) {}
  std::uint32_t state_dim() const override { return dim_; }
  void initialise(std::span<float> state) const override {
    std::fill(state.begin(), state.end(), initial_accumulator_);
  }
  void step(std::span<float> weights, std::span<float> state,
            std::span<const float> gradient) const override {
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float g = gradient[i];
      state[i] += g * g;
      weights[i] -= learning_rate_ * g / (std::sqrt(state[i]) + epsilon_);
    }
  }

 private:
  std::uint32_t dim_;
  float learning_rate_;
  float initial_accumulator_;
  float epsilon_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adagrad(const OptimizerSpec& spec, std::uint32_t dim) {
  return std::make_unique<Adagrad>(spec, dim);
}

}  // namespace persia
