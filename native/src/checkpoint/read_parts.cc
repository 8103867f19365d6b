// Rows from parts into tables.
#include <algorithm>
#include <optional>
#include <utility>

#include "on_all_threads.h"
#include "part_reader.h"
#include "persia/checkpoint.h"
#include "persia/codec.h"
#include "persia/error.h"
#include "persia/floats.h"
#include "persia/gradient_sum.h"
#include "persia/ids.h"
#include "persia/part_format.h"
#include "persia/weight_type.h"

namespace persia {
namespace {

constexpr std::uint64_t kBlockBytes = 1 << 20;  // for each thread

using FloatBlock = std::vector<float, Unfilled<float>>;

// The rows of one table of one part that belong to `server`, a block at a time: all threads read and check
// the block, then each puts the rows of its shards in place.
class TableLoader {
 public:
  TableLoader(const PartReader& part, const TableSpec& table, const MergedClock& clock, std::size_t number,
              EmbeddingStore& store, ThreadTeam* team)
      : part_(part),
        table_(table),
        weights_(table.weight_type, table.dim),
        clock_(clock),
        number_(number),
        store_(store),
        team_(team),
        slices_(team != nullptr ? team->size() : 1) {
    const std::uint64_t row_bytes = 8 + weights_.bytes() + sizeof(float) * store.state_dim();
    block_rows_ = std::max<std::uint64_t>(slices_, slices_ * kBlockBytes / row_bytes);
  }

  void load(std::uint32_t server, std::uint32_t servers) {
    const std::uint64_t rows = part_.rows(table_);
    for (std::uint64_t first = 0; first < rows; first += block_rows_) {
      const auto count = static_cast<std::size_t>(std::min(block_rows_, rows - first));
      ids_.resize(count);
      part_.read_ids(table_, first, ids_);
      chosen_.clear();
      for (std::uint32_t i = 0; i < count; ++i) {
        if (server_of(ids_[i], servers) == server) chosen_.push_back(i);
      }
      if (!chosen_.empty()) load_block(first, count);
    }
  }

 private:
  void load_block(std::uint64_t first, std::size_t count) {
    wide_last_used_.resize(count);
    last_used_.resize(count);
    raw_.resize(count * weights_.bytes());
    state_.resize(count * store_.state_dim());
    on_all_threads(team_, slices_, [&](std::uint32_t slice) {
      const std::size_t begin = count * slice / slices_;
      read_slice(first, begin, count * (slice + 1) / slices_ - begin);
    });
    const EmbeddingStore::RowBlock block{ids_, raw_, state_, last_used_, chosen_};
    std::vector<std::optional<std::uint64_t>> twice(store_.shards());
    on_all_threads(team_, store_.shards(),
                   [&](std::uint32_t shard) { twice[shard] = store_.insert_block(shard, block); });
    for (const std::optional<std::uint64_t>& id : twice) {
      if (id)
        part_.corrupt("id " + hex64(*id) + " of table " + table_.name + " was in an earlier part already");
    }
  }

  void read_slice(std::uint64_t first, std::size_t begin, std::size_t count) {
    const auto used = std::span(wide_last_used_).subspan(begin, count);
    part_.read_last_used(table_, first + begin, used);
    for (std::size_t i = 0; i < count; ++i) {
      if (used[i] > 0xFFFFFFFF) part_.corrupt("a last_used of table " + table_.name + " is above 2^32 - 1");
      last_used_[begin + i] = clock_.convert(number_, static_cast<std::uint32_t>(used[i]));
    }
    const auto raw = std::span(raw_).subspan(begin * weights_.bytes(), count * weights_.bytes());
    part_.read_weights(table_, first + begin, raw);
    const auto state = std::span(state_).subspan(begin * store_.state_dim(), count * store_.state_dim());
    part_.read_state(table_, first + begin, state);
    if (!is_finite(raw, count) || !all_finite(state))
      part_.corrupt("table " + table_.name + " holds a value that is not finite");
  }

  bool is_finite(std::span<const std::byte> raw, std::size_t count) const {
    if (weights_.is_float32()) {
      return all_finite({reinterpret_cast<const float*>(raw.data()), raw.size() / sizeof(float)});
    }
    std::vector<float> wide(table_.dim);
    for (std::size_t i = 0; i < count; ++i) {
      weights_.read(raw.data() + i * weights_.bytes(), wide.data());
      if (!all_finite(wide)) return false;
    }
    return true;
  }

  const PartReader& part_;
  const TableSpec& table_;
  RowWeights weights_;
  const MergedClock& clock_;
  std::size_t number_;  // of the part, in the clock
  EmbeddingStore& store_;
  ThreadTeam* team_;
  std::uint32_t slices_;
  std::uint64_t block_rows_ = 0;
  std::vector<std::uint64_t> ids_;
  std::vector<std::uint32_t> chosen_;
  std::vector<std::uint64_t> wide_last_used_;
  std::vector<std::uint32_t> last_used_;
  Bytes raw_;
  FloatBlock state_;
};

}  // namespace

PartSize read_parts(const std::vector<std::string>& paths, std::uint32_t server, std::uint32_t servers,
                    const std::vector<TableSpec>& tables, Stores& stores, ThreadTeam* team) {
  PartSize size;
  std::vector<std::vector<TableClock>> clocks(tables.size());  // of each table, of each part
  std::vector<SightingsReader> sightings;
  for (const TableSpec& table : tables) sightings.emplace_back(table, server, servers);
  std::vector<std::vector<std::uint64_t>> own(paths.size());  // rows, of each part, of each table
  std::vector<std::uint64_t> own_of_table(tables.size(), 0);
  for (std::size_t p = 0; p < paths.size(); ++p) {
    const PartReader part(paths[p], tables, stores);
    size.step = std::max(size.step, part.step());
    std::uint64_t own_rows = 0;
    std::uint64_t all_rows = 0;
    for (std::size_t t = 0; t < tables.size(); ++t) {
      clocks[t].push_back(part.clock(tables[t]));
      part.add_sightings(tables[t], sightings[t]);
      own[p].push_back(part.count_own(tables[t], server, servers));
      own_of_table[t] += own[p][t];
      own_rows += own[p][t];
      all_rows += part.rows(tables[t]);
    }
    // Every row belongs to one server, which checks all of the part that it is in.
    if (own_rows > 0 || all_rows == 0) {
      part.check_data();
      size.bytes += part.bytes();
    }
  }
  std::vector<MergedClock> merged;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    merged.emplace_back(std::move(clocks[t]));
    stores[t]->restore({merged[t].merged(), sightings[t].seen()});
    stores[t]->expect(own_of_table[t]);
  }
  for (std::size_t p = 0; p < paths.size(); ++p) {
    const PartReader part(paths[p], tables, stores);
    for (std::size_t t = 0; t < tables.size(); ++t) {
      if (own[p][t] == 0) continue;
      TableLoader(part, tables[t], merged[t], p, *stores[t], team).load(server, servers);
      size.rows += own[p][t];
    }
  }
  return size;
}

}  // namespace persia
