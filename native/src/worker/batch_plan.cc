#include "persia/batch_plan.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "persia/gradient_sum.h"
#include "persia/id_index.h"
#include "persia/ids.h"
#include "persia/part_format.h"

namespace persia {
namespace {

constexpr std::size_t kAhead = 16;  // ids whose memory is asked for before it is used

void check(const FeatureIds& feature, std::size_t number, std::size_t rows, const TableSpec& table) {
  const auto require = [&](bool holds, const std::string& what) {
    if (!holds) throw std::invalid_argument("feature " + std::to_string(number) + ": " + what);
  };
  require(feature.offsets.size() == rows + 1, "offsets must have rows + 1 elements, as those of feature 0");
  require(feature.offsets[0] == 0, "offsets must start with 0");
  for (std::size_t r = 0; r < rows; ++r)
    require(feature.offsets[r] <= feature.offsets[r + 1], "offsets must not fall");
  require(static_cast<std::uint64_t>(feature.offsets[rows]) == feature.ids.size(),
          "the last offset must be the number of ids");
  for (const std::uint64_t id : feature.ids) {
    if (!table.owns(id)) require(false, "id " + hex64(id) + " has not the prefix of table " + table.name);
  }
}

void prefetch(const float* row, std::uint32_t dim) {
  constexpr std::uint32_t kFloatsOfLine = 16;
  for (std::uint32_t j = 0; j < dim; j += kFloatsOfLine) __builtin_prefetch(row + j);
}

}  // namespace

BatchPlan plan_batch(std::span<const FeatureIds> features, std::span<const std::uint32_t> table_of_feature,
                     std::span<const TableSpec> tables, std::uint32_t servers) {
  if (features.size() != table_of_feature.size()) {
    throw std::invalid_argument("there must be ids and offsets of " +
                                std::to_string(table_of_feature.size()) + " features");
  }
  BatchPlan plan;
  plan.features.resize(features.size());
  plan.tables.resize(tables.size());
  if (!features.empty()) {
    if (features[0].offsets.empty())
      throw std::invalid_argument("feature 0: offsets must have rows + 1 elements");
    plan.rows = features[0].offsets.size() - 1;
  }
  std::vector<std::size_t> ids_of_table(tables.size());
  for (std::size_t f = 0; f < features.size(); ++f) {
    check(features[f], f, plan.rows, tables[table_of_feature[f]]);
    ids_of_table[table_of_feature[f]] += features[f].ids.size();
  }
  for (std::uint32_t t = 0; t < tables.size(); ++t) {
    TablePlan& table = plan.tables[t];
    table.by_server.resize(servers);
    thread_local IdIndex index;  // keeps its memory from batch to batch
    index.clear(ids_of_table[t]);
    for (std::size_t f = 0; f < features.size(); ++f) {
      if (table_of_feature[f] != t) continue;
      FeaturePlan& feature = plan.features[f];
      feature.table = t;
      feature.offsets.assign(features[f].offsets.begin(), features[f].offsets.end());
      const std::span<const std::uint64_t> ids = features[f].ids;
      feature.positions.resize(ids.size());
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (i + kAhead < ids.size()) index.prefetch(ids[i + kAhead]);
        feature.positions[i] = index.insert(ids[i]).first;
      }
    }
    table.unique.assign(index.ids().begin(), index.ids().end());
    for (std::uint32_t position = 0; position < table.unique.size(); ++position) {
      const std::uint32_t server = servers == 1 ? 0 : server_of(table.unique[position], servers);
      table.by_server[server].push_back(position);
    }
  }
  return plan;
}

void pool(const BatchPlan& plan, std::size_t feature, const TableSpec& table,
          std::span<const float* const> row_of, std::span<float> pooled) {
  const FeaturePlan& ids = plan.features[feature];
  const std::uint32_t dim = table.dim;
  for (std::size_t r = 0; r < plan.rows; ++r) {
    float* __restrict to = pooled.data() + r * dim;
    const auto begin = static_cast<std::size_t>(ids.offsets[r]);
    const auto end = static_cast<std::size_t>(ids.offsets[r + 1]);
    if (begin == end) std::fill_n(to, dim, 0.0f);
    for (std::size_t i = begin; i < end; ++i) {
      if (i + kAhead < ids.positions.size()) prefetch(row_of[ids.positions[i + kAhead]], dim);
      const float* row = row_of[ids.positions[i]];
      if (i == begin) {
        std::copy_n(row, dim, to);
      } else {
        for (std::uint32_t j = 0; j < dim; ++j) to[j] += row[j];
      }
    }
    if (table.pooling == Pooling::kMean && end - begin > 1) {
      const float share = 1.0f / static_cast<float>(end - begin);
      for (std::uint32_t j = 0; j < dim; ++j) to[j] *= share;
    }
  }
}

bool add_gradients(const BatchPlan& plan, std::size_t feature, const TableSpec& table,
                   std::span<const float> pooled_gradient, float scale, std::span<float* const> sum_of) {
  const FeaturePlan& ids = plan.features[feature];
  const std::uint32_t dim = table.dim;
  bool finite = true;
  for (std::size_t r = 0; r < plan.rows; ++r) {
    const auto begin = static_cast<std::size_t>(ids.offsets[r]);
    const auto end = static_cast<std::size_t>(ids.offsets[r + 1]);
    const float* gradient = pooled_gradient.data() + r * dim;
    if (begin == end) finite = finite && all_finite({gradient, dim});
    const float factor =
        table.pooling == Pooling::kMean && end > begin ? scale / static_cast<float>(end - begin) : scale;
    for (std::size_t i = begin; i < end; ++i) {
      if (i + kAhead < ids.positions.size()) prefetch(sum_of[ids.positions[i + kAhead]], dim);
      float* __restrict sum = sum_of[ids.positions[i]];
      for (std::uint32_t j = 0; j < dim; ++j) sum[j] += factor * gradient[j];
    }
  }
  return finite;
}

}  // namespace persia
