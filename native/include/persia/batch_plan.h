// What a batch asks of the servers, and how rows and gradients map to its samples.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "persia/table_spec.h"

namespace persia {

// The ids of one feature: those of sample r are ids[offsets[r] .. offsets[r + 1]).
struct FeatureIds {
  std::span<const std::uint64_t> ids;
  std::span<const std::int64_t> offsets;
};

struct TablePlan {
  std::vector<std::uint64_t> unique;  // over all features of the table, in order of appearance
  std::vector<std::vector<std::uint32_t>> by_server;  // positions in `unique`
};

struct FeaturePlan {
  std::uint32_t table = 0;
  std::vector<std::int64_t> offsets;
  std::vector<std::uint32_t> positions;  // of each id of the feature, in the table's `unique`
};

struct BatchPlan {
  std::size_t rows = 0;
  std::vector<TablePlan> tables;
  std::vector<FeaturePlan> features;
};

// Throws std::invalid_argument naming the feature where offsets or ids are wrong.
BatchPlan plan_batch(std::span<const FeatureIds> features, std::span<const std::uint32_t> table_of_feature,
                     std::span<const TableSpec> tables, std::uint32_t servers);

// pooled [rows, dim] of one feature from the table's rows: row_of[p] is where that of unique[p] is, [dim].
void pool(const BatchPlan& plan, std::size_t feature, const TableSpec& table,
          std::span<const float* const> row_of, std::span<float> pooled);

// Adds the gradient of each id of one feature to its sum, in order of the samples: sum_of[p] is where that of
// unique[p] is, [dim]. False if the gradient of a sample without ids, which is added to nothing, is not
// finite.
bool add_gradients(const BatchPlan& plan, std::size_t feature, const TableSpec& table,
                   std::span<const float> pooled_gradient, float scale, std::span<float* const> sum_of);

}  // namespace persia
