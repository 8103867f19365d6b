// Stochastic gradient descent: w -= learning_rate * g. No state. Equals torch.optim.SGD.
#include "persia/optimizer.h"

namespace persia {
namespace {

class Sgd final : public Optimizer {
 public:
  explicit Sgd(const OptimizerSpec& spec) : learning_rate_(static_cast<float>(spec.learning_rate)) {}
  std::uint32_t state_dim() const override { return 0; }
  void initialise(std::span<float>) const override {}
  void step(std::span<float> weights, std::span<float>, std::span<const float> gradient) const override {
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= learning_rate_ * gradient[i];
  }

 private:
  float learning_rate_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const OptimizerSpec& spec) {
  return std::make_unique<Sgd>(spec);
}

}  // namespace persia
