// Rows from parts into tables.
#include <algorithm>
#include <optional>
#include <utility>

#include "chain.h"
#include "on_all_threads.h"
#include "part_reader.h"
#include "persia/checkpoint.h"
#include "persia/codec.h"
#include "persia/error.h"
#include "persia/floats.h"
#include "persia/gradient_sum.h"
#include "persia/id_index.h"
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

  // Without the ids in `decided`. How many rows there were.
  std::uint64_t load(std::uint32_t server, std::uint32_t servers, const IdIndex& decided) {
    std::uint64_t loaded = 0;
    const std::uint64_t rows = part_.rows(table_);
    for (std::uint64_t first = 0; first < rows; first += block_rows_) {
      const auto count = static_cast<std::size_t>(std::min(block_rows_, rows - first));
      ids_.resize(count);
      part_.read_ids(table_, first, ids_);
      chosen_.clear();
      for (std::uint32_t i = 0; i < count; ++i) {
        if (server_of(ids_[i], servers) != server) continue;
        if (decided.size() == 0 || decided.find(ids_[i]) == IdIndex::kAbsent) chosen_.push_back(i);
      }
      if (!chosen_.empty()) load_block(first, count);
      loaded += chosen_.size();
    }
    return loaded;
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

// What a delta says of ids of this server is newer than what parts before it say.
void decide(const PartReader& part, const TableSpec& table, std::uint32_t server, std::uint32_t servers,
            IdIndex& decided) {
  const auto add = [&](std::span<const std::uint64_t> ids) {
    for (const std::uint64_t id : ids) {
      if (server_of(id, servers) == server) decided.insert(id);
    }
  };
  std::vector<std::uint64_t> ids(std::min<std::uint64_t>(part.rows(table), kBlockBytes / 8));
  for (std::uint64_t first = 0; first < part.rows(table); first += ids.size()) {
    const auto block = std::span(ids).first(std::min<std::uint64_t>(ids.size(), part.rows(table) - first));
    part.read_ids(table, first, block);
    add(block);
  }
  add(part.removed(table));
}

}  // namespace

PartSize read_parts(const std::vector<std::string>& paths, std::uint32_t server, std::uint32_t servers,
                    const std::vector<TableSpec>& tables, Stores& stores, ThreadTeam* team) {
  PartSize size;
  std::vector<PartReader> parts;
  std::vector<std::vector<std::uint64_t>> own(paths.size());  // rows, of each part, of each table
  std::vector<std::uint64_t> own_of_table(tables.size(), 0);
  for (std::size_t p = 0; p < paths.size(); ++p) {
    const PartReader& part = parts.emplace_back(paths[p], tables, stores);
    size.step = std::max(size.step, part.step());
    std::uint64_t own_rows = 0;
    std::uint64_t all_rows = 0;
    for (std::size_t t = 0; t < tables.size(); ++t) {
      own[p].push_back(part.count_own(tables[t], server, servers));
      own_of_table[t] += own[p][t];
      own_rows += own[p][t];
      all_rows += part.rows(tables[t]);
    }
    // Every row belongs to one server, which checks all of the part that it is in.
    if (own_rows > 0 || all_rows == 0 || part.cut().follows) {
      part.check_data();
      size.bytes += part.bytes();
    }
  }
  const Chain chain = chain_of(parts);
  if (chain.empty()) return size;
  size.cut = parts[chain.back().front()].cut().number;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    // What a table remembers beside its rows is in every part of the last cut.
    std::vector<TableClock> clocks;
    SightingsReader sightings(tables[t], server, servers);
    for (const std::size_t p : chain.back()) {
      clocks.push_back(parts[p].clock(tables[t]));
      parts[p].add_sightings(tables[t], sightings);
    }
    if (chain.size() > 1) require_one_clock(parts[chain.back().front()], tables[t], clocks);
    const MergedClock merged(std::move(clocks));
    stores[t]->restore({merged.merged(), sightings.seen()});
    stores[t]->expect(own_of_table[t]);
    IdIndex decided;
    for (std::size_t link = chain.size(); link-- > 0;) {
      for (std::size_t n = 0; n < chain[link].size(); ++n) {
        const std::size_t p = chain[link][n];
        if (own[p][t] == 0) continue;
        const std::size_t number = link + 1 == chain.size() ? n : 0;  // before: the clocks are one
        TableLoader loader(parts[p], tables[t], merged, number, *stores[t], team);
        size.rows += loader.load(server, servers, decided);
      }
      for (const std::size_t p : chain[link]) {
        if (link > 0) decide(parts[p], tables[t], server, servers, decided);
      }
    }
  }
  return size;
}

}  // namespace persia
