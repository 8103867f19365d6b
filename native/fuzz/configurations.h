// The small configurations that fuzz targets and their seeds share.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "persia/messages.h"

namespace persia::fuzz {

// The first bit of an id tells its table, so that nearly every mutated id is of one that exists.
inline TableSpec small_table(const char* name, std::uint32_t prefix, std::uint32_t dim,
                             OptimizerSpec optimizer) {
  TableSpec table;
  table.name = name;
  table.prefix = prefix;
  table.prefix_bits = 1;
  table.dim = dim;
  table.optimizer = optimizer;
  table.initializer = {.kind = InitializerKind::kUniform, .low = -1, .high = 1};
  table.expected_rows = 10;
  return table;
}

inline std::vector<ConfigureRequest> small_configurations() {
  const OptimizerSpec adagrad{.kind = OptimizerKind::kAdagrad, .learning_rate = 0.5, .epsilon = 1e-10};
  const OptimizerSpec adam{
      .kind = OptimizerKind::kAdam, .learning_rate = 0.5, .epsilon = 1e-8, .beta1 = 0.9, .beta2 = 0.999};
  const OptimizerSpec momentum{.kind = OptimizerKind::kSgd, .learning_rate = 0.5, .momentum = 0.9};
  const OptimizerSpec ftrl{.kind = OptimizerKind::kFtrl, .learning_rate = 0.5, .beta = 1, .l1 = 0.1};
  const OptimizerSpec rowwise{.kind = OptimizerKind::kRowwiseAdagrad, .learning_rate = 0.5, .epsilon = 1e-10};
  const auto two = [](TableSpec user, TableSpec item) {
    item.initializer = {.kind = InitializerKind::kNormal, .mean = 0, .std = 1};
    return std::vector<TableSpec>{std::move(user), std::move(item)};
  };
  // Three rows fit into the first table, and rows of the second are admitted at their second sighting.
  std::vector<TableSpec> bounded =
      two(small_table("user", 0, 2, rowwise), small_table("item", 1, 1, adagrad));
  bounded[0].capacity_bytes = 3 * (4 * 3 + kRowOverheadBytes);
  bounded[1].admission = {.kind = AdmissionKind::kSightings, .count = 2};
  std::vector<TableSpec> sampled = two(small_table("user", 0, 2, adagrad), small_table("item", 1, 3, adam));
  sampled[1].admission = {.kind = AdmissionKind::kProbability, .probability = 0.5};
  // Rows of the first table live two days, and those of the second have weights of 16 bits.
  std::vector<TableSpec> aging = two(small_table("user", 0, 2, adagrad), small_table("item", 1, 1, adagrad));
  aging[0].max_age_days = 2;
  aging[1].weight_type = WeightType::kBfloat16;
  const auto configure = [](std::uint32_t servers, std::uint32_t trainers, std::uint32_t staleness,
                            bool combine, std::vector<TableSpec> tables,
                            WeightType values = WeightType::kFloat32) {
    ConfigureRequest request;
    request.servers = servers;
    request.trainers = trainers;
    request.staleness = staleness;
    request.combine = combine;
    request.seed = 11;
    request.tables = std::move(tables);
    request.values = values;
    return request;
  };
  return {
      configure(1, 2, 2, false, two(small_table("user", 0, 2, adagrad), small_table("item", 1, 3, adam))),
      configure(1, 2, 1, true, two(small_table("user", 0, 2, momentum), small_table("item", 1, 1, ftrl))),
      configure(1, 1, 4, false, std::move(bounded)),
      configure(2, 2, 2, false, std::move(sampled)),
      configure(1, 1, 1, false, std::move(aging)),
      configure(1, 1, 2, false, two(small_table("user", 0, 2, adagrad), small_table("item", 1, 3, adagrad)),
                WeightType::kFloat16),
      configure(1, 1, 2, false, two(small_table("user", 0, 2, adagrad), small_table("item", 1, 3, adagrad)),
                WeightType::kBfloat16),
      configure(1, 2, 2, true, two(small_table("user", 0, 2, adagrad), small_table("item", 1, 1, adam))),
  };
}

}  // namespace persia::fuzz
