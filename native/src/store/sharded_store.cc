#include "persia/sharded_store.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace persia {
namespace {

TableSpec share_of(const TableSpec& table, std::uint32_t shards) {
  TableSpec share = table;
  share.expected_rows = table.expected_rows / shards;
  share.capacity_bytes = table.capacity_bytes / shards;
  const bool too_small = share.capacity_bytes == 0 || capacity_rows(share) < 1;
  if (table.capacity_bytes > 0 && too_small) {
    throw std::invalid_argument("table " + table.name + ": capacity_bytes over " + std::to_string(shards) +
                                " threads is less than one row takes");
  }
  return share;
}

}  // namespace

void Partition::assign(std::span<const std::uint64_t> ids, std::uint32_t shards) {
  parts_.resize(shards);
  for (Part& part : parts_) {
    part.ids.clear();
    part.places.clear();
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Part& part = parts_[shard_of(ids[i], shards)];
    part.ids.push_back(ids[i]);
    part.places.push_back(static_cast<std::uint32_t>(i));
  }
}

std::vector<std::uint32_t> missing_of(const Partition& partition,
                                      std::span<const std::vector<std::uint32_t>> missing) {
  std::vector<std::uint32_t> places;
  for (std::uint32_t s = 0; s < missing.size(); ++s) {
    for (const std::uint32_t position : missing[s]) places.push_back(partition[s].places[position]);
  }
  std::sort(places.begin(), places.end());
  return places;
}

ShardedStore::ShardedStore(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers, ThreadTeam& team)
    : team_(&team), shards_(team.size()) {
  const TableSpec share = share_of(spec, shards());
  team.run([&](std::uint32_t s) { shards_[s] = make_store(share, seed, servers); });
}

std::vector<std::uint32_t> ShardedStore::lookup_training(std::span<const std::uint64_t> ids,
                                                         std::span<float> weights,
                                                         std::span<const std::uint32_t> places) {
  return lookup(ids, weights, places, true);
}

std::vector<std::uint32_t> ShardedStore::lookup_evaluation(std::span<const std::uint64_t> ids,
                                                           std::span<float> weights,
                                                           std::span<const std::uint32_t> places) {
  return lookup(ids, weights, places, false);
}

std::vector<std::uint32_t> ShardedStore::lookup(std::span<const std::uint64_t> ids, std::span<float> weights,
                                                std::span<const std::uint32_t> places, bool training) {
  partition_.assign(ids, shards());
  std::vector<std::vector<std::uint32_t>> missing(shards());
  team_->run([&](std::uint32_t s) {
    const Partition::Part& part = partition_[s];
    std::vector<std::uint32_t> to;
    for (const std::uint32_t i : part.places) to.push_back(places.empty() ? i : places[i]);
    missing[s] = training ? shards_[s]->lookup_training(part.ids, weights, to)
                          : shards_[s]->lookup_evaluation(part.ids, weights, to);
  });
  return missing_of(partition_, missing);
}

void ShardedStore::update(std::span<const std::uint64_t> ids, std::span<const float* const> gradients,
                          const StepOptions& options) {
  partition_.assign(ids, shards());
  team_->run([&](std::uint32_t s) {
    std::vector<const float*> mine;
    for (const std::uint32_t i : partition_[s].places) mine.push_back(gradients[i]);
    shards_[s]->update(partition_[s].ids, mine, options);
  });
}

void ShardedStore::advance_day(std::uint32_t day) {
  team_->run([&](std::uint32_t s) { shards_[s]->advance_day(day); });
}

bool ShardedStore::insert(std::uint64_t id, std::span<const float> weights, std::span<const float> state,
                          std::uint32_t last_used) {
  return shards_[shard_of(id, shards())]->insert(id, weights, state, last_used);
}

std::optional<std::uint64_t> ShardedStore::insert_block(std::uint32_t shard, const RowBlock& block) {
  if (shards() == 1) return shards_[0]->insert_block(0, block);
  std::vector<std::uint32_t> mine;
  for (const std::uint32_t i : block.chosen) {
    if (shard_of(block.ids[i], shards()) == shard) mine.push_back(i);
  }
  RowBlock part = block;
  part.chosen = mine;
  return shards_[shard]->insert_block(0, part);
}

void ShardedStore::expect(std::uint64_t rows) {
  team_->run([&](std::uint32_t s) { shards_[s]->expect(rows / shards()); });
}

void ShardedStore::append_places(std::uint32_t shard, bool changed, std::vector<Place>& places) const {
  shards_[shard]->append_places(0, changed, places);
}

void ShardedStore::append_removed(std::uint32_t shard, std::vector<std::uint64_t>& ids) const {
  shards_[shard]->append_removed(0, ids);
}

void ShardedStore::start_log() {
  team_->run([&](std::uint32_t s) { shards_[s]->start_log(); });
}

void ShardedStore::cut() {
  team_->run([&](std::uint32_t s) { shards_[s]->cut(); });
}

void ShardedStore::settle_cut(bool written) {
  team_->run([&](std::uint32_t s) { shards_[s]->settle_cut(written); });
}

EmbeddingStore::RowMemory ShardedStore::memory_of(const Place& place) const {
  return shards_[shard_of(place.id, shards())]->memory_of(place);
}

EmbeddingStore::RowArea ShardedStore::row_area(std::uint32_t shard) const {
  return shards_[shard]->row_area(0);
}

void ShardedStore::copy_pieces(std::uint32_t shard, std::uint64_t first, std::uint64_t count,
                               std::byte* to) const {
  shards_[shard]->copy_pieces(0, first, count, to);
}

void ShardedStore::attach(std::uint32_t shard, std::uint64_t rows, std::span<const Place> places,
                          const ReadMemory& read) {
  shards_[shard]->attach(0, rows, places, read);
}

std::size_t ShardedStore::read(Cursor& cursor, std::span<Row> rows) const {
  std::size_t n = 0;
  while (cursor.shard < shards() && n < rows.size()) {
    n += shards_[cursor.shard]->read(cursor, rows.subspan(n));
    if (n < rows.size()) cursor = {cursor.shard + 1, 0};
  }
  return n;
}

TableHistory ShardedStore::history() const {
  // All shards count the same lookups and days.
  TableHistory whole{shards_[0]->history().clock, {}};
  std::vector<std::pair<std::uint64_t, std::uint8_t>> seen;
  for (const auto& shard : shards_) {
    const Sightings part = shard->history().sightings;
    for (std::size_t i = 0; i < part.ids.size(); ++i) seen.emplace_back(part.ids[i], part.counts[i]);
  }
  std::sort(seen.begin(), seen.end());
  for (const auto& [id, count] : seen) {
    whole.sightings.ids.push_back(id);
    whole.sightings.counts.push_back(count);
  }
  return whole;
}

void ShardedStore::restore(TableHistory history) {
  std::vector<TableHistory> parts(shards(), TableHistory{history.clock, {}});
  for (std::size_t i = 0; i < history.sightings.ids.size(); ++i) {
    Sightings& part = parts[shard_of(history.sightings.ids[i], shards())].sightings;
    part.ids.push_back(history.sightings.ids[i]);
    part.counts.push_back(history.sightings.counts[i]);
  }
  for (std::uint32_t s = 0; s < shards(); ++s) shards_[s]->restore(std::move(parts[s]));
}

StoreStatistics ShardedStore::statistics() const {
  static_assert(sizeof(StoreStatistics) == 12 * sizeof(std::uint64_t), "a new counter is to be added up");
  StoreStatistics sum;
  for (const auto& shard : shards_) {
    const StoreStatistics each = shard->statistics();
    sum.rows += each.rows;
    sum.bytes += each.bytes;
    sum.lookups += each.lookups;
    sum.hits += each.hits;
    sum.misses += each.misses;
    sum.created += each.created;
    sum.not_admitted += each.not_admitted;
    sum.evicted += each.evicted;
    sum.expired += each.expired;
    sum.updates += each.updates;
    sum.updates_missing += each.updates_missing;
    sum.saturated += each.saturated;
  }
  return sum;
}

}  // namespace persia
