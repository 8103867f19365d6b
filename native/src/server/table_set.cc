#include "persia/table_set.h"

#include <algorithm>

#include "persia/error.h"

namespace persia {

TableSet::TableSet(const std::vector<TableSpec>& tables, std::uint64_t seed, std::uint32_t servers,
                   ThreadTeam& team)
    : team_(&team), summers_(team.size()) {
  for (const TableSpec& table : tables) {
    auto store = std::make_unique<ShardedStore>(table, seed, servers, team);
    sharded_.push_back(store.get());
    stores_.push_back(std::move(store));
    names_.push_back(table.name);
    for (auto& summers : summers_) summers.emplace_back(table.dim);
  }
}

std::vector<std::vector<std::uint32_t>> TableSet::lookup(std::span<const Lookup> lookups, bool training) {
  const std::uint32_t shards = team_->size();
  std::vector<const Lookup*> of_table(sharded_.size(), nullptr);
  std::vector<std::size_t> number(sharded_.size());
  partitions_.resize(std::max(partitions_.size(), lookups.size()));
  for (std::size_t i = 0; i < lookups.size(); ++i) {
    of_table[lookups[i].table] = &lookups[i];
    number[lookups[i].table] = i;
    if (shards > 1) partitions_[i].assign(lookups[i].ids, shards);
  }
  // By lookup and shard.
  std::vector<std::vector<std::vector<std::uint32_t>>> missing(lookups.size());
  for (auto& each : missing) each.resize(shards);
  team_->run([&](std::uint32_t s) {
    for (std::size_t t = 0; t < sharded_.size(); ++t) {
      EmbeddingStore& shard = sharded_[t]->shard(s);
      const Lookup* each = of_table[t];
      if (each == nullptr) {
        if (training) shard.lookup_training({}, {});
        continue;
      }
      std::span<const std::uint64_t> ids = each->ids;
      std::span<const std::uint32_t> places;
      if (shards > 1) {
        ids = partitions_[number[t]][s].ids;
        places = partitions_[number[t]][s].places;
      }
      missing[number[t]][s] = training ? shard.lookup_training(ids, each->weights, places)
                                       : shard.lookup_evaluation(ids, each->weights, places);
    }
  });
  std::vector<std::vector<std::uint32_t>> result;
  for (std::size_t i = 0; i < lookups.size(); ++i) {
    result.push_back(shards > 1 ? missing_of(partitions_[i], missing[i]) : std::move(missing[i][0]));
  }
  return result;
}

void TableSet::update(std::span<const Update> updates, std::span<const StepOptions> options) {
  const std::uint32_t shards = team_->size();
  partitions_.resize(std::max(partitions_.size(), updates.size()));
  std::vector<std::vector<std::size_t>> of_table(sharded_.size());
  for (std::size_t i = 0; i < updates.size(); ++i) {
    of_table[updates[i].table].push_back(i);
    if (shards > 1) partitions_[i].assign(updates[i].ids, shards);
  }
  std::vector<std::vector<GradientSum>> sums(shards);
  std::vector<std::size_t> not_finite(shards, sharded_.size());  // the first table with such a sum
  team_->run([&](std::uint32_t s) {
    std::vector<GradientSource> sources;
    for (std::size_t t = 0; t < sharded_.size(); ++t) {
      sources.clear();
      for (const std::size_t i : of_table[t]) {
        if (shards > 1) {
          sources.push_back({partitions_[i][s].ids, updates[i].gradients, partitions_[i][s].places});
        } else {
          sources.push_back({updates[i].ids, updates[i].gradients, {}});
        }
      }
      sums[s].push_back(summers_[s][t].sum(sources));
      // Finite gradients may have a sum that is not.
      if (!all_finite(sums[s][t].sums)) not_finite[s] = std::min(not_finite[s], t);
    }
  });
  const std::size_t bad = *std::min_element(not_finite.begin(), not_finite.end());
  if (bad < sharded_.size()) {
    throw RequestError(ErrorCode::kNotFinite,
                       "the summed gradient of an id of table " + names_[bad] + " is not finite");
  }
  team_->run([&](std::uint32_t s) {
    for (std::size_t t = 0; t < sharded_.size(); ++t) {
      sharded_[t]->shard(s).update(sums[s][t].ids, sums[s][t].gradients, options[t]);
    }
  });
}

void TableSet::advance_day(std::uint32_t day) {
  team_->run([&](std::uint32_t s) {
    for (ShardedStore* store : sharded_) store->shard(s).advance_day(day);
  });
}

}  // namespace persia
