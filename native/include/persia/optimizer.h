// Optimizers: one step on one row, whose state lies beside its weights.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "persia/table_spec.h"

namespace persia {

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // Floats of state per row.
  virtual std::uint32_t state_dim() const = 0;
  virtual void initialise(std::span<float> state) const = 0;
  // `weights` and `gradient` have the table's dim, `state` has state_dim().
  virtual void step(std::span<float> weights, std::span<float> state,
                    std::span<const float> gradient) const = 0;
};

std::unique_ptr<Optimizer> make_optimizer(const OptimizerSpec& spec, std::uint32_t dim);

// The optimizers behind the factory, each in a source of its own.
std::unique_ptr<Optimizer> make_sgd(const OptimizerSpec& spec);
std::unique_ptr<Optimizer> make_adagrad(const OptimizerSpec& spec, std::uint32_t dim);

}  // namespace persia
