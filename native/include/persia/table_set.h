// All tables of a server, and what a request does to them on all threads at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "persia/checkpoint.h"
#include "persia/gradient_sum.h"
#include "persia/sharded_store.h"
#include "persia/table_spec.h"
#include "persia/thread_team.h"

namespace persia {

// Not thread-safe: the thread that owns the team calls it.
class TableSet {
 public:
  struct Lookup {
    std::uint32_t table = 0;
    std::span<const std::uint64_t> ids;
    std::span<float> weights;  // [ids, dim], written
  };
  struct Update {
    std::uint32_t table = 0;
    std::span<const std::uint64_t> ids;
    std::span<const float> gradients;  // [ids, dim], finite
  };

  // `team` must outlive the tables. Throws std::invalid_argument, as ShardedStore.
  TableSet(const std::vector<TableSpec>& tables, std::uint64_t seed, std::uint32_t servers, ThreadTeam& team);

  // Of each lookup, the positions of ids without a row, ascending. Every table is named at most once. The
  // clocks of all tables count a training lookup, also of those without ids of theirs.
  std::vector<std::vector<std::uint32_t>> lookup(std::span<const Lookup> lookups, bool training);
  // Adds up the gradients of each id, in order, and takes one optimizer step per id. A table may be named
  // several times. `options` are those of each table. Throws RequestError(kNotFinite) if a sum is not finite,
  // and std::bad_alloc: then nothing has changed.
  void update(std::span<const Update> updates, std::span<const StepOptions> options);
  void advance_day(std::uint32_t day);  // of every table

  Stores& stores() { return stores_; }
  const Stores& stores() const { return stores_; }
  std::uint32_t dim(std::uint32_t table) const { return sharded_[table]->dim(); }

 private:
  std::vector<std::string> names_;
  ThreadTeam* team_;
  Stores stores_;
  std::vector<ShardedStore*> sharded_;                // the same
  std::vector<std::vector<GradientSummer>> summers_;  // by shard and table
  std::vector<Partition> partitions_;                 // of the lookups or updates of one call
};

}  // namespace persia
