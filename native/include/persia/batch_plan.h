// What a batch asks of the servers, and how rows and gradients map to its samples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "persia/table_spec.h"

namespace persia {

// A feature whose bags are ids of a table, and what becomes of their rows.
struct FeatureSpec {
  std::uint32_t table = 0;
  Pooling pooling = Pooling::kSum;
  std::uint32_t length = 0;  // places of a sequence, 1 to kMaxSequenceLength; 0 with any other pooling

  // Floats per sample of what a model gets.
  std::size_t width(std::uint32_t dim) const { return std::size_t{dim} * (length > 0 ? length : 1); }
};

inline constexpr std::uint32_t kMaxSequenceLength = 4096;

// Throws std::invalid_argument if there is no such table or pooling, or the length does not go with it.
void check_feature(const FeatureSpec& feature, std::size_t tables);

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
  std::vector<std::int64_t> offsets;     // of the positions
  std::vector<std::uint32_t> positions;  // of each id that is kept, in the table's `unique`
};

struct BatchPlan {
  std::size_t rows = 0;
  std::uint64_t truncated = 0;  // ids that did not fit into their sequence
  std::vector<TablePlan> tables;
  std::vector<FeaturePlan> features;
};

// Of a bag longer than its sequence the last ids are kept, and nothing is asked for the others. Throws
// std::invalid_argument naming the feature where offsets or ids are wrong.
BatchPlan plan_batch(std::span<const FeatureIds> features, std::span<const FeatureSpec> specs,
                     std::span<const TableSpec> tables, std::uint32_t servers);

// pooled [rows, dim] of one feature, or [rows, length, dim] of a sequence, from the table's rows: row_of[p]
// is where that of unique[p] is, [dim].
void pool(const BatchPlan& plan, std::size_t feature, const FeatureSpec& spec, std::uint32_t dim,
          std::span<const float* const> row_of, std::span<float> pooled);

// mask [rows, length] of a sequence: whether a place holds an id.
void fill_mask(const BatchPlan& plan, std::size_t feature, const FeatureSpec& spec, std::span<bool> mask);

// Adds the gradient of each id of one feature to its sum, in order of the samples: sum_of[p] is where that of
// unique[p] is, [dim]. False if a gradient that is added to nothing, of a sample or a place without an id, is
// not finite.
bool add_gradients(const BatchPlan& plan, std::size_t feature, const FeatureSpec& spec, std::uint32_t dim,
                   std::span<const float> pooled_gradient, float scale, std::span<float* const> sum_of);

}  // namespace persia
