// One embedding table over the threads of a team: a store of its own for each of them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "persia/ids.h"
#include "persia/store.h"
#include "persia/thread_team.h"

namespace persia {

// The low half of mix64 chooses the server, so all ids of one server are alike in it.
constexpr std::uint32_t shard_of(std::uint64_t id, std::uint32_t shards) {
  return static_cast<std::uint32_t>(mix64(id) >> 32) % shards;
}

// The ids of a batch by shard, each shard's in their order. Keeps its memory from batch to batch.
class Partition {
 public:
  struct Part {
    std::vector<std::uint64_t> ids;
    std::vector<std::uint32_t> places;  // of each id in the batch
  };
  void assign(std::span<const std::uint64_t> ids, std::uint32_t shards);
  const Part& operator[](std::uint32_t shard) const { return parts_[shard]; }

 private:
  std::vector<Part> parts_;
};

// Thread t of the team alone touches shard t while the team runs; the caller may touch all of them while it
// does not. Nothing is locked.
//
// Each shard is an EmbeddingStore with a share of the capacity, and evicts and admits by itself. For each
// shard, ids and gradients come in the order of the batch: so without a capacity, rows do not depend on the
// number of shards.
class ShardedStore final : public EmbeddingStore {
 public:
  // `team` must outlive the store. Throws std::invalid_argument if a shard's share of the capacity is less
  // than one row takes.
  ShardedStore(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers, ThreadTeam& team);

  std::uint32_t shards() const override { return static_cast<std::uint32_t>(shards_.size()); }
  EmbeddingStore& shard(std::uint32_t s) { return *shards_[s]; }

  std::uint32_t dim() const override { return shards_[0]->dim(); }
  std::uint32_t state_dim() const override { return shards_[0]->state_dim(); }
  bool tracks_use() const override { return shards_[0]->tracks_use(); }
  bool counts_sightings() const override { return shards_[0]->counts_sightings(); }
  std::vector<std::uint32_t> lookup_training(std::span<const std::uint64_t> ids, std::span<float> weights,
                                             std::span<const std::uint32_t> places) override;
  std::vector<std::uint32_t> lookup_evaluation(std::span<const std::uint64_t> ids, std::span<float> weights,
                                               std::span<const std::uint32_t> places) override;
  void update(std::span<const std::uint64_t> ids, std::span<const float* const> gradients,
              const StepOptions& options) override;
  void advance_day(std::uint32_t day) override;
  bool insert(std::uint64_t id, std::span<const float> weights, std::span<const float> state,
              std::uint32_t last_used) override;
  std::optional<std::uint64_t> insert_block(std::uint32_t shard, const RowBlock& block) override;
  void expect(std::uint64_t rows) override;
  void append_places(std::uint32_t shard, bool changed, std::vector<Place>& places) const override;
  void append_removed(std::uint32_t shard, std::vector<std::uint64_t>& ids) const override;
  void start_log() override;
  void cut() override;
  void settle_cut(bool written) override;
  RowMemory memory_of(const Place& place) const override;
  RowArea row_area(std::uint32_t shard) const override;
  std::uint64_t area_bytes(std::uint64_t rows) const override { return shards_[0]->area_bytes(rows); }
  void copy_pieces(std::uint32_t shard, std::uint64_t first, std::uint64_t count,
                   std::byte* to) const override;
  void attach(std::uint32_t shard, std::uint64_t rows, std::span<const Place> places,
              const ReadMemory& read) override;
  std::size_t read(Cursor& cursor, std::span<Row> rows) const override;
  TableHistory history() const override;
  void restore(TableHistory history) override;
  StoreStatistics statistics() const override;

 private:
  std::vector<std::uint32_t> lookup(std::span<const std::uint64_t> ids, std::span<float> weights,
                                    std::span<const std::uint32_t> places, bool training);

  ThreadTeam* team_;
  std::vector<std::unique_ptr<EmbeddingStore>> shards_;
  Partition partition_;
};

// Of what each shard could not find (positions in its part): positions in the batch, ascending.
std::vector<std::uint32_t> missing_of(const Partition& partition,
                                      std::span<const std::vector<std::uint32_t>> missing);

}  // namespace persia
