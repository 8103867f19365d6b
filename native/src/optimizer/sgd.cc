// Stochastic gradient descent with weight decay and momentum (Sutskever, Martens, Dahl, Hinton 2013):
//   d = g + weight_decay * w;  b = momentum * b + d;  w -= learning_rate * b
// State: b, one float per weight, from 0; none with momentum 0, where b = d.
// Equals torch.optim.SGD with dampening 0, of rows that have a gradient.
#include <algorithm>

#include "persia/multiversion.h"
#include "persia/optimizer.h"

namespace persia {

namespace {

struct SgdOptions {
  float learning_rate;
  float momentum;
  float weight_decay;
};

PERSIA_MULTIVERSION
void sgd_steps(std::span<const RowStep> rows, std::size_t dim, SgdOptions options) {
  for (const RowStep& each : rows) {
    float* __restrict weights = each.weights;
    const float* __restrict gradient = each.gradient;
    for (std::size_t i = 0; i < dim; ++i) {
      const float d = gradient[i] + options.weight_decay * weights[i];
      weights[i] -= options.learning_rate * d;
    }
  }
}

PERSIA_MULTIVERSION
void momentum_steps(std::span<const RowStep> rows, std::size_t dim, SgdOptions options) {
  for (const RowStep& each : rows) {
    float* __restrict weights = each.weights;
    float* __restrict buffer = each.state;
    const float* __restrict gradient = each.gradient;
    for (std::size_t i = 0; i < dim; ++i) {
      const float d = gradient[i] + options.weight_decay * weights[i];
      buffer[i] = options.momentum * buffer[i] + d;
      weights[i] -= options.learning_rate * buffer[i];
    }
  }
}

class Sgd final : public Optimizer {
 public:
  Sgd(const OptimizerSpec& spec, std::uint32_t dim)
      : dim_(dim),
        state_dim_(persia::state_dim(spec, dim)),
        learning_rate_(spec.learning_rate),
        momentum_(static_cast<float>(spec.momentum)),
        weight_decay_(static_cast<float>(spec.weight_decay)) {}
  std::uint32_t state_dim() const override { return state_dim_; }
  void initialise(std::span<float> state) const override { std::fill(state.begin(), state.end(), 0.0f); }
  void step(std::span<const RowStep> rows, double learning_rate_factor) const override {
    const SgdOptions options{static_cast<float>(learning_rate_ * learning_rate_factor), momentum_,
                             weight_decay_};
    if (state_dim_ > 0) {
      momentum_steps(rows, dim_, options);
    } else {
      sgd_steps(rows, dim_, options);
    }
  }

 private:
  std::uint32_t dim_;
  std::uint32_t state_dim_;
  double learning_rate_;
  float momentum_;
  float weight_decay_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const OptimizerSpec& spec, std::uint32_t dim) {
  return std::make_unique<Sgd>(spec, dim);
}

}  // namespace persia
