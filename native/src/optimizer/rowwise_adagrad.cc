// Row-wise Adagrad (as in FBGEMM's EXACT_ROWWISE_ADAGRAD; Mudigere et al. 2021, arXiv 2104.05158):
//   a += mean(g * g);  w -= learning_rate / (sqrt(a) + epsilon) * g
// State: a, one float per row.
#include <algorithm>
#include <array>
#include <cmath>

#include "persia/multiversion.h"
#include "persia/optimizer.h"

namespace persia {
namespace {

constexpr std::size_t kLanes = 16;

PERSIA_MULTIVERSION
void rowwise_steps(std::span<const RowStep> rows, std::size_t dim, float learning_rate, float epsilon) {
  for (const RowStep& each : rows) {
    float* __restrict weights = each.weights;
    const float* __restrict gradient = each.gradient;
    // A fixed order of summation, whatever the width of the vectors: lane by lane, then the lanes.
    std::array<float, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= dim; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        lanes[lane] += gradient[i + lane] * gradient[i + lane];
      }
    }
    for (std::size_t lane = 0; i < dim; ++i, ++lane) lanes[lane] += gradient[i] * gradient[i];
    float squares = 0;
    for (const float lane : lanes) squares += lane;
    float& sum = *each.state;
    sum += squares / static_cast<float>(dim);
    const float rate = learning_rate / (std::sqrt(sum) + epsilon);
    for (std::size_t j = 0; j < dim; ++j) weights[j] -= rate * gradient[j];
  }
}

class RowwiseAdagrad final : public Optimizer {
 public:
  RowwiseAdagrad(const OptimizerSpec& spec, std::uint32_t dim)
      : dim_(dim),
        learning_rate_(spec.learning_rate),
        initial_accumulator_(static_cast<float>(spec.initial_accumulator)),
        epsilon_(static_cast<float>(spec.epsilon)) {}
  std::uint32_t state_dim() const override { return 1; }
  void initialise(std::span<float> state) const override { state[0] = initial_accumulator_; }
  void step(std::span<const RowStep> rows, double learning_rate_factor) const override {
    rowwise_steps(rows, dim_, static_cast<float>(learning_rate_ * learning_rate_factor), epsilon_);
  }

 private:
  std::uint32_t dim_;
  double learning_rate_;
  float initial_accumulator_;
  float epsilon_;
};

}  // namespace

std::unique_ptr<Optimizer> make_rowwise_adagrad(const OptimizerSpec& spec, std::uint32_t dim) {
  return std::make_unique<RowwiseAdagrad>(spec, dim);
}

}  // namespace persia
