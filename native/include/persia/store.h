// The rows of one embedding table on one server.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "persia/admission.h"
#include "persia/day_list.h"
#include "persia/table_spec.h"

namespace persia {

struct StoreStatistics {
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;    // rows, index and order of eviction
  std::uint64_t lookups = 0;  // ids, not requests; hits + misses
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t created = 0;
  std::uint64_t not_admitted = 0;     // training lookups of ids that got no row
  std::uint64_t evicted = 0;          // rows that made room for others
  std::uint64_t expired = 0;          // rows that were not looked up for max_age_days
  std::uint64_t updates = 0;          // optimizer steps
  std::uint64_t updates_missing = 0;  // gradients of ids that have no row
  std::uint64_t saturated = 0;        // elements that their weight type cannot hold
};

// What a table remembers beside its rows.
struct TableHistory {
  TableClock clock;
  Sightings sightings;  // of a table that admits by them
};

// How an update is applied.
struct StepOptions {
  double learning_rate_factor = 1;  // finite, >= 0
  std::uint64_t step = 0;           // how many updates came before
};

// Not thread-safe: one thread of a server owns it.
//
// A table with a capacity holds at most capacity_rows() rows. To create one more, it evicts the row that
// was least recently looked up for training: the one with the smallest (clock of its last training lookup,
// id). The clock counts calls of lookup_training. Ids of one call are taken in order, so a call may evict
// rows that the same call has touched, if the capacity is less than the call needs.
//
// A table with max_age_days gives up the rows that were not looked up for training for so many days. It
// knows of days what advance_day() tells it.
class EmbeddingStore {
 public:
  // weights [dim], as they lie in memory, and state [state_dim] of one row; valid until the store changes.
  struct Row {
    std::uint64_t id = 0;
    std::span<const std::byte> weights;
    std::span<const float> state;
    std::uint32_t last_used = 0;
  };
  // A place on the way through all rows. It means nothing any more when the store has changed.
  struct Cursor {
    std::uint32_t shard = 0;
    std::size_t entry = 0;
  };
  // Where a row is, for those who go through rows in an order of their own. Valid until the store changes.
  struct Place {
    std::uint64_t id = 0;
    std::uint32_t row = 0;
    std::uint32_t last_used = 0;
  };
  struct RowMemory {
    const std::byte* weights;
    const float* state;
  };
  // Rows to be put in place: weights as they lie in memory, without what fills them up.
  struct RowBlock {
    std::span<const std::uint64_t> ids;
    std::span<const std::byte> weights;        // [ids, bytes of the weights]
    std::span<const float> state;              // [ids, state_dim]
    std::span<const std::uint32_t> last_used;  // [ids]
    std::span<const std::uint32_t> chosen;     // positions of the rows that are meant
  };
  // The memory that rows lie in: `pieces` of one size, one behind the other.
  struct RowArea {
    std::uint64_t rows = 0;  // that it is for, those without an id included
    std::uint64_t pieces = 0;
    std::uint64_t piece_bytes = 0;
  };
  using ReadMemory = std::function<void(std::span<std::byte> memory)>;
  using Visitor = std::function<void(std::uint64_t id, std::span<const std::byte> weights,
                                     std::span<const float> state, std::uint32_t last_used)>;

  virtual ~EmbeddingStore() = default;
  virtual std::uint32_t dim() const = 0;
  virtual std::uint32_t state_dim() const = 0;
  // Whether last_used means anything: the table has a capacity or max_age_days.
  virtual bool tracks_use() const = 0;
  // Whether sightings mean anything: the table admits ids by them.
  virtual bool counts_sightings() const = 0;
  // Weights of ids[i] into row places[i] of `weights` [*, dim], or into row i if there are no places. An id
  // seen for the first time gets its initial row, if it is admitted; one that is not reads as zeros, and its
  // position in `ids` is returned.
  virtual std::vector<std::uint32_t> lookup_training(std::span<const std::uint64_t> ids,
                                                     std::span<float> weights,
                                                     std::span<const std::uint32_t> places = {}) = 0;
  // The same without creating: ids that have no row read as zeros, and their positions are returned.
  virtual std::vector<std::uint32_t> lookup_evaluation(std::span<const std::uint64_t> ids,
                                                       std::span<float> weights,
                                                       std::span<const std::uint32_t> places = {}) = 0;
  // One optimizer step per id. `ids` are distinct (see GradientSummer); each gradient has dim elements, all
  // finite. An id that has no row is counted and its gradient is dropped: it reaches no other row.
  virtual void update(std::span<const std::uint64_t> ids, std::span<const float* const> gradients,
                      const StepOptions& options) = 0;
  // From the next lookup on it is `day`, counted from 1970-01-01. Removes the rows whose last training lookup
  // was before day - max_age_days. Changes nothing if it is that day or a later one already.
  virtual void advance_day(std::uint32_t day) = 0;
  // False, changing nothing, if the id has a row already. Weights are rounded to the nearest number. In a
  // full table, the least recently used one of all rows and this one is evicted.
  virtual bool insert(std::uint64_t id, std::span<const float> weights, std::span<const float> state,
                      std::uint32_t last_used) = 0;
  // The same for the chosen rows of a block that are of `shard`, in order. The id that has a row already, at
  // which it stops; nothing if there is none.
  virtual std::optional<std::uint64_t> insert_block(std::uint32_t shard, const RowBlock& block) = 0;
  // Makes room in the index of an empty table for so many rows at once, of all shards together.
  virtual void expect(std::uint64_t rows) = 0;
  // Independent parts of the table: different threads may use different ones.
  virtual std::uint32_t shards() const { return 1; }
  // The places of the rows of a shard, in no particular order, to the end of `places`: of all, or of those
  // that the last cut has set apart.
  virtual void append_places(std::uint32_t shard, bool changed, std::vector<Place>& places) const = 0;
  // Ids that had a row at the cut before the last one, and have none now; some may come twice.
  virtual void append_removed(std::uint32_t shard, std::vector<std::uint64_t>& ids) const = 0;
  // Changes are counted from now on (see ChangeLog).
  virtual void start_log() = 0;
  virtual void cut() = 0;
  virtual void settle_cut(bool written) = 0;
  virtual RowMemory memory_of(const Place& place) const = 0;
  virtual RowArea row_area(std::uint32_t shard) const = 0;
  virtual std::uint64_t area_bytes(std::uint64_t rows) const = 0;  // of a shard with so many rows
  virtual void copy_pieces(std::uint32_t shard, std::uint64_t first, std::uint64_t count,
                           std::byte* to) const = 0;
  // Into an empty shard: memory for `rows` rows, filled by `read` from front to back, and the places of those
  // that have an id. Throws std::invalid_argument if these cannot be; the table is then to be thrown away.
  virtual void attach(std::uint32_t shard, std::uint64_t rows, std::span<const Place> places,
                      const ReadMemory& read) = 0;
  // The next rows from `cursor` on, in no particular order; how many. Fewer than there is room for, if no
  // more are left.
  virtual std::size_t read(Cursor& cursor, std::span<Row> rows) const = 0;
  // Every row, in the same order.
  void for_each(const Visitor& visit) const;
  virtual TableHistory history() const = 0;
  // Into an empty table, before insert(). What the table does not need is left out.
  virtual void restore(TableHistory history) = 0;
  virtual StoreStatistics statistics() const = 0;
};

std::unique_ptr<EmbeddingStore> make_store(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers);

}  // namespace persia
