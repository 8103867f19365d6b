#include <stdexcept>

#include "persia/optimizer.h"

namespace persia {

std::unique_ptr<Optimizer> make_optimizer(const OptimizerSpec& spec, std::uint32_t dim) {
  switch (spec.kind) {
    case OptimizerKind::kSgd: return make_sgd(spec, dim);
    case OptimizerKind::kAdagrad: return make_adagrad(spec, dim);
    case OptimizerKind::kRowwiseAdagrad: return make_rowwise_adagrad(spec, dim);
    case OptimizerKind::kAdam: return make_adam(spec, dim);
    case OptimizerKind::kFtrl: return make_ftrl(spec, dim);
  }
  throw std::invalid_argument("unknown optimizer");
}

}  // namespace persia
