// Optimizers: steps on rows, which are weights and optimizer state.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "persia/table_spec.h"

namespace persia {

// One step of one row.
struct RowStep {
  float* weights;         // [dim]
  float* state;           // [state_dim]
  const float* gradient;  // [dim]
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Floats of state per row.
  virtual std::uint32_t state_dim() const = 0;
  virtual void initialise(std::span<float> state) const = 0;
  // In order, with the learning rate times `learning_rate_factor`: the product of doubles, narrowed once.
  // Element-wise IEEE arithmetic without contraction: the same bits on every processor.
  virtual void step(std::span<const RowStep> rows, double learning_rate_factor) const = 0;
};

std::unique_ptr<Optimizer> make_optimizer(const OptimizerSpec& spec, std::uint32_t dim);

// The optimizers behind the factory, each in a source of its own.
std::unique_ptr<Optimizer> make_sgd(const OptimizerSpec& spec, std::uint32_t dim);
std::unique_ptr<Optimizer> make_adagrad(const OptimizerSpec& spec, std::uint32_t dim);
std::unique_ptr<Optimizer> make_rowwise_adagrad(const OptimizerSpec& spec, std::uint32_t dim);
std::unique_ptr<Optimizer> make_adam(const OptimizerSpec& spec, std::uint32_t dim);
std::unique_ptr<Optimizer> make_ftrl(const OptimizerSpec& spec, std::uint32_t dim);

}  // namespace persia
