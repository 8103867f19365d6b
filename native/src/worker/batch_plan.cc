#include "persia/batch_plan.h"

#include <algorithm>
#include <cmath>
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

// The ids of a feature, of each bag the last `length`; sets their offsets.
std::vector<std::uint64_t> cut_bags(const FeatureIds& feature, std::uint32_t length,
                                    std::vector<std::int64_t>& offsets) {
  std::vector<std::uint64_t> kept;
  kept.reserve(feature.ids.size());
  offsets.assign(1, 0);
  for (std::size_t r = 0; r + 1 < feature.offsets.size(); ++r) {
    const auto end = static_cast<std::size_t>(feature.offsets[r + 1]);
    const std::size_t size = end - static_cast<std::size_t>(feature.offsets[r]);
    const std::size_t count = std::min<std::size_t>(size, length);
    const std::span<const std::uint64_t> last = feature.ids.subspan(end - count, count);
    kept.insert(kept.end(), last.begin(), last.end());
    offsets.push_back(static_cast<std::int64_t>(kept.size()));
  }
  return kept;
}

struct Bag {
  std::size_t begin;  // in the positions of the feature
  std::size_t end;
  std::size_t places;  // of dim floats, that its ids fill: one each in a sequence, else one for all
};

Bag bag_of(const FeaturePlan& feature, const FeatureSpec& spec, std::size_t row) {
  const auto begin = static_cast<std::size_t>(feature.offsets[row]);
  const auto end = static_cast<std::size_t>(feature.offsets[row + 1]);
  const bool sequence = spec.pooling == Pooling::kSequence;
  return {begin, end, sequence ? end - begin : std::min<std::size_t>(end - begin, 1)};
}

// By what the sum over a bag of so many ids is divided.
float divisor(Pooling pooling, std::size_t ids) {
  const auto count = static_cast<float>(ids);
  switch (pooling) {
    case Pooling::kMean: return count;
    case Pooling::kSqrtn: return std::sqrt(count);
    default: return 1;
  }
}

}  // namespace

void check_feature(const FeatureSpec& feature, std::size_t tables) {
  if (feature.table >= tables) throw std::invalid_argument("a feature names a table that is not there");
  if (name_of(feature.pooling) == nullptr) throw std::invalid_argument("a feature has an unknown pooling");
  if (feature.length > kMaxSequenceLength ||
      (feature.pooling == Pooling::kSequence) != (feature.length > 0)) {
    throw std::invalid_argument("the length of a feature must be from 1 to " +
                                std::to_string(kMaxSequenceLength) +
                                " with pooling sequence, and 0 with any other");
  }
}

BatchPlan plan_batch(std::span<const FeatureIds> features, std::span<const FeatureSpec> specs,
                     std::span<const TableSpec> tables, std::uint32_t servers) {
  if (features.size() != specs.size()) {
    throw std::invalid_argument("there must be ids and offsets of " + std::to_string(specs.size()) +
                                " features");
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
    check(features[f], f, plan.rows, tables[specs[f].table]);
    ids_of_table[specs[f].table] += features[f].ids.size();
  }
  for (std::uint32_t t = 0; t < tables.size(); ++t) {
    TablePlan& table = plan.tables[t];
    table.by_server.resize(servers);
    thread_local IdIndex index;  // keeps its memory from batch to batch
    index.clear(ids_of_table[t]);
    for (std::size_t f = 0; f < features.size(); ++f) {
      if (specs[f].table != t) continue;
      FeaturePlan& feature = plan.features[f];
      feature.table = t;
      std::span<const std::uint64_t> ids = features[f].ids;
      std::vector<std::uint64_t> kept;
      if (specs[f].pooling == Pooling::kSequence) {
        kept = cut_bags(features[f], specs[f].length, feature.offsets);
        plan.truncated += ids.size() - kept.size();
        ids = kept;
      } else {
        feature.offsets.assign(features[f].offsets.begin(), features[f].offsets.end());
      }
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

void pool(const BatchPlan& plan, std::size_t feature, const FeatureSpec& spec, std::uint32_t dim,
          std::span<const float* const> row_of, std::span<float> pooled) {
  const std::vector<std::uint32_t>& positions = plan.features[feature].positions;
  const std::size_t width = spec.width(dim);
  const bool sequence = spec.pooling == Pooling::kSequence;
  for (std::size_t r = 0; r < plan.rows; ++r) {
    const Bag bag = bag_of(plan.features[feature], spec, r);
    float* const first = pooled.data() + r * width;
    std::fill(first + bag.places * dim, first + width, 0.0f);
    for (std::size_t i = bag.begin; i < bag.end; ++i) {
      if (i + kAhead < positions.size()) prefetch(row_of[positions[i + kAhead]], dim);
      const float* row = row_of[positions[i]];
      float* __restrict to = first + (sequence ? (i - bag.begin) * dim : 0);
      if (sequence || i == bag.begin) {
        std::copy_n(row, dim, to);
      } else {
        for (std::uint32_t j = 0; j < dim; ++j) to[j] += row[j];
      }
    }
    const bool divided = spec.pooling == Pooling::kMean || spec.pooling == Pooling::kSqrtn;
    if (divided && bag.end - bag.begin > 1) {
      const float share = 1.0f / divisor(spec.pooling, bag.end - bag.begin);
      for (std::uint32_t j = 0; j < dim; ++j) first[j] *= share;
    }
  }
}

void fill_mask(const BatchPlan& plan, std::size_t feature, const FeatureSpec& spec, std::span<bool> mask) {
  for (std::size_t r = 0; r < plan.rows; ++r) {
    const Bag bag = bag_of(plan.features[feature], spec, r);
    const std::span<bool> places = mask.subspan(r * spec.length, spec.length);
    for (std::size_t i = 0; i < places.size(); ++i) places[i] = i < bag.places;
  }
}

bool add_gradients(const BatchPlan& plan, std::size_t feature, const FeatureSpec& spec, std::uint32_t dim,
                   std::span<const float> pooled_gradient, float scale, std::span<float* const> sum_of) {
  const std::vector<std::uint32_t>& positions = plan.features[feature].positions;
  const std::size_t width = spec.width(dim);
  const bool sequence = spec.pooling == Pooling::kSequence;
  bool finite = true;
  for (std::size_t r = 0; r < plan.rows; ++r) {
    const Bag bag = bag_of(plan.features[feature], spec, r);
    const float* const first = pooled_gradient.data() + r * width;
    const std::size_t used = bag.places * dim;
    if (used < width) finite = finite && all_finite({first + used, width - used});
    const float factor = bag.begin == bag.end ? scale : scale / divisor(spec.pooling, bag.end - bag.begin);
    for (std::size_t i = bag.begin; i < bag.end; ++i) {
      if (i + kAhead < positions.size()) prefetch(sum_of[positions[i + kAhead]], dim);
      const float* gradient = first + (sequence ? (i - bag.begin) * dim : 0);
      float* __restrict sum = sum_of[positions[i]];
      for (std::uint32_t j = 0; j < dim; ++j) sum[j] += factor * gradient[j];
    }
  }
  return finite;
}

}  // namespace persia
