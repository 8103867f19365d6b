// Rows in slabs, found by a RowIndex, visited by a RowPipeline.
#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <stdexcept>

#include "copy_row.h"
#include "narrow_steps.h"
#include "persia/admission.h"
#include "persia/change_log.h"
#include "persia/eviction_order.h"
#include "persia/initializer.h"
#include "persia/optimizer.h"
#include "persia/row_index.h"
#include "persia/row_slabs.h"
#include "persia/store.h"
#include "persia/weight_type.h"
#include "row_pipeline.h"

namespace persia {
namespace {

// expected_rows is a hint: a wrong one must not take all memory before the first row.
constexpr std::uint64_t kMaxReserved = 1 << 20;
constexpr std::size_t kSteps = 16;  // rows that an optimizer gets at once
constexpr std::size_t kAhead = 16;  // rows whose buckets are on their way while one is put in place

class SlabStore final : public EmbeddingStore {
 public:
  SlabStore(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers)
      : spec_(spec),
        seed_(seed),
        capacity_(capacity_rows(spec)),
        optimizer_(make_optimizer(spec.optimizer, spec.dim)),
        admission_(spec.admission, seed),
        weights_(spec.weight_type, spec.dim),
        slabs_(weight_row_bytes(spec.weight_type, spec.dim), optimizer_->state_dim() * sizeof(float),
               capacity_),
        index_(std::min({spec.expected_rows / servers, kMaxReserved, capacity_}), capacity_),
        pipeline_(index_, slabs_) {}

  std::uint32_t dim() const override { return spec_.dim; }
  std::uint32_t state_dim() const override { return optimizer_->state_dim(); }
  bool tracks_use() const override { return capacity_ != kUnbounded || spec_.max_age_days > 0; }

  bool counts_sightings() const override { return spec_.admission.kind == AdmissionKind::kSightings; }

  std::vector<std::uint32_t> lookup_training(std::span<const std::uint64_t> ids, std::span<float> weights,
                                             std::span<const std::uint32_t> places) override {
    tick();
    const bool tracks = tracks_use();
    const RowCopier copier(weights.data(), weights.size_bytes(), dim(), weights_);
    std::vector<std::uint32_t> missing;
    std::uint64_t created = 0;
    pipeline_.visit<Fetch::kWeights>(ids, [&](std::size_t i, RowIndex::Entry* entry, std::byte* row) {
      float* to = weights.data() + (places.empty() ? i : places[i]) * dim();
      if (entry != nullptr) [[likely]] {
        if (tracks && entry->last_used != now_) {
          entry->last_used = now_;
          order_.add(now_, ids[i]);
          log_.touch(entry->row());
        }
        copier.copy(to, row);
        return;
      }
      if (make(ids[i], {to, dim()})) {
        ++created;
      } else {
        missing.push_back(static_cast<std::uint32_t>(i));
      }
    });
    copier.finish();
    statistics_.created += created;
    statistics_.not_admitted += missing.size();
    statistics_.misses += created + missing.size();
    statistics_.hits += ids.size() - created - missing.size();
    return missing;
  }

  std::vector<std::uint32_t> lookup_evaluation(std::span<const std::uint64_t> ids, std::span<float> weights,
                                               std::span<const std::uint32_t> places) override {
    const RowCopier copier(weights.data(), weights.size_bytes(), dim(), weights_);
    std::vector<std::uint32_t> missing;
    pipeline_.visit<Fetch::kWeights>(ids, [&](std::size_t i, const RowIndex::Entry* entry, std::byte* row) {
      float* to = weights.data() + (places.empty() ? i : places[i]) * dim();
      if (entry == nullptr) {
        missing.push_back(static_cast<std::uint32_t>(i));
        std::fill_n(to, dim(), 0.0f);
      } else {
        copier.copy(to, row);
      }
    });
    copier.finish();
    statistics_.misses += missing.size();
    statistics_.hits += ids.size() - missing.size();
    return missing;
  }

  void update(std::span<const std::uint64_t> ids, std::span<const float* const> gradients,
              const StepOptions& options) override {
    std::array<RowStep, kSteps> steps;
    std::size_t waiting = 0;
    std::uint64_t missing = 0;
    NarrowSteps narrow(weights_, seed_, options.step, dim(), kSteps);
    const auto take = [&] {
      optimizer_->step(std::span(steps).first(waiting), options.learning_rate_factor);
      statistics_.saturated += narrow.write_back();
      waiting = 0;
    };
    pipeline_.visit<Fetch::kAll>(ids, [&](std::size_t i, const RowIndex::Entry* entry, std::byte* row) {
      if (entry == nullptr) {
        ++missing;
        return;
      }
      float* weights = weights_.is_float32() ? reinterpret_cast<float*>(row) : narrow.widen(ids[i], row);
      log_.touch(entry->row());
      steps[waiting++] = {weights, slabs_.state(entry->row()), gradients[i]};
      if (waiting == kSteps) take();
    });
    take();
    statistics_.updates_missing += missing;
    statistics_.updates += ids.size() - missing;
  }

  bool insert(std::uint64_t id, std::span<const float> weights, std::span<const float> state,
              std::uint32_t last_used) override {
    if (index_.find(id) != nullptr) return false;
    const std::optional<std::uint32_t> row = place(id, last_used);
    if (!row) return true;
    statistics_.saturated += weights_.write_nearest(slabs_.weights(*row), weights.data());
    std::copy(state.begin(), state.end(), slabs_.state(*row));
    return true;
  }

  std::optional<std::uint64_t> insert_block(std::uint32_t, const RowBlock& block) override {
    const std::span<const std::uint32_t> chosen = block.chosen;
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      if (k + kAhead < chosen.size()) RowIndex::prefetch(index_.home(block.ids[chosen[k + kAhead]]));
      const std::uint32_t i = chosen[k];
      if (index_.find(block.ids[i]) != nullptr) return block.ids[i];
      const std::optional<std::uint32_t> row = place(block.ids[i], block.last_used[i]);
      if (!row) continue;
      std::memcpy(slabs_.weights(*row), block.weights.data() + i * weights_.bytes(), weights_.bytes());
      const float* state = block.state.data() + std::size_t{i} * state_dim();
      std::copy(state, state + state_dim(), slabs_.state(*row));
    }
    return std::nullopt;
  }

  void expect(std::uint64_t rows) override { index_.expect(rows); }

  void append_places(std::uint32_t, bool changed, std::vector<Place>& places) const override {
    if (!changed) places.reserve(places.size() + index_.size());
    for (const RowIndex::Entry& entry : index_.slots()) {
      if (entry.is_free() || (changed && !log_.was_touched(entry.row()))) continue;
      places.push_back({entry.id, entry.row(), entry.last_used});
    }
  }

  void append_removed(std::uint32_t, std::vector<std::uint64_t>& ids) const override {
    std::ranges::copy_if(log_.removed(), std::back_inserter(ids),
                         [this](std::uint64_t id) { return index_.find(id) == nullptr; });
  }

  void start_log() override { log_.start(rows_made_); }
  void cut() override { log_.cut(); }
  void settle_cut(bool written) override { log_.settle(written); }

  RowMemory memory_of(const Place& place) const override {
    return {slabs_.weights(place.row), slabs_.state(place.row)};
  }

  RowArea row_area(std::uint32_t) const override {
    return {rows_made_, slabs_.pieces(rows_made_), slabs_.piece_bytes()};
  }

  std::uint64_t area_bytes(std::uint64_t rows) const override {
    return slabs_.pieces(rows) * slabs_.piece_bytes();
  }

  void copy_pieces(std::uint32_t, std::uint64_t first, std::uint64_t count, std::byte* to) const override {
    for (const std::uint64_t end = first + count; first < end;) {
      const std::span<const std::byte> run = slabs_.run(first, end - first);
      to = std::copy(run.begin(), run.end(), to);
      first += run.size() / slabs_.piece_bytes();
    }
  }

  void attach(std::uint32_t, std::uint64_t rows, std::span<const Place> places,
              const ReadMemory& read) override {
    if (rows > capacity_ || places.size() > rows) throw std::invalid_argument("there are too many rows");
    slabs_.reserve(rows);
    for (std::uint64_t piece = 0; piece < slabs_.pieces(rows);) {
      const std::span<std::byte> run = slabs_.run(piece, slabs_.pieces(rows) - piece);
      read(run);
      piece += run.size() / slabs_.piece_bytes();
    }
    rows_made_ = rows;
    index_.expect(places.size());
    std::vector<bool> taken(rows);
    for (const Place& each : places) {
      if (each.row >= rows || taken[each.row])
        throw std::invalid_argument("two ids have one row, or one has none");
      if (index_.find(each.id) != nullptr) throw std::invalid_argument("an id is there twice");
      taken[each.row] = true;
      index_.make_room();
      index_.insert(each.id, each.row, each.last_used);
      now_ = std::max(now_, each.last_used);
    }
    for (std::uint64_t row = 0; row < rows; ++row) {
      if (!taken[row]) free_rows_.push_back(static_cast<std::uint32_t>(row));
    }
  }

  std::size_t read(Cursor& cursor, std::span<Row> rows) const override {
    const std::span<RowIndex::Entry> slots = index_.slots();
    std::size_t n = 0;
    for (; cursor.entry < slots.size() && n < rows.size(); ++cursor.entry) {
      const RowIndex::Entry& entry = slots[cursor.entry];
      if (entry.is_free()) continue;
      rows[n++] = {entry.id,
                   {slabs_.weights(entry.row()), weights_.bytes()},
                   {slabs_.state(entry.row()), state_dim()},
                   entry.last_used};
    }
    return n;
  }

  void advance_day(std::uint32_t day) override {
    if (spec_.max_age_days == 0 || !days_.advance(day, now_ + 1) || day < spec_.max_age_days) return;
    const std::uint32_t oldest_day = day - spec_.max_age_days;
    if (const auto first = days_.first_clock_of(oldest_day)) remove_before(*first);
    days_.forget_before(oldest_day);
  }

  TableHistory history() const override { return {{now_, days_.starts()}, admission_.sightings()}; }

  void restore(TableHistory history) override {
    now_ = history.clock.clock;
    admission_.remember(history.sightings);
    if (spec_.max_age_days > 0) days_ = DayList(std::move(history.clock.days));
  }

  StoreStatistics statistics() const override {
    StoreStatistics result = statistics_;
    result.rows = index_.size();
    result.bytes = rows_made_ * slabs_.row_bytes() + index_.bytes() + order_.bytes() +
                   free_rows_.capacity() * sizeof(std::uint32_t) + log_.bytes();
    result.lookups = result.hits + result.misses;
    return result;
  }

 private:
  // A training lookup of an id that has no row: false if it gets none. Rare, and kept out of the way of
  // those that have one.
  [[gnu::noinline]] bool make(std::uint64_t id, std::span<float> to) {
    if (!admission_.admits(id)) {
      std::fill(to.begin(), to.end(), 0.0f);
      return false;
    }
    const std::uint32_t row = create(id, now_);
    initialise_weights(spec_.initializer, seed_, id, to);
    optimizer_->initialise({slabs_.state(row), state_dim()});
    statistics_.saturated += weights_.write_nearest(slabs_.weights(row), to.data());
    weights_.read(slabs_.weights(row), to.data());
    return true;
  }

  // The row for an id that has none and is not new; none if it is the first to be evicted.
  std::optional<std::uint32_t> place(std::uint64_t id, std::uint32_t last_used) {
    now_ = std::max(now_, last_used);
    if (index_.size() >= capacity_) {
      const RowIndex::Entry* oldest = order_.oldest(index_);
      if (EvictionOrder::Key{last_used, id} < EvictionOrder::Key{oldest->last_used, oldest->id}) {
        ++statistics_.evicted;
        return std::nullopt;
      }
    }
    return create(id, last_used);
  }

  // The number of a row for an id that has none; evicts if the table is full.
  std::uint32_t create(std::uint64_t id, std::uint32_t last_used) {
    pipeline_.changed();
    std::uint32_t number = 0;
    if (index_.size() >= capacity_) {
      RowIndex::Entry* oldest = order_.oldest(index_);
      number = oldest->row();
      log_.remove(oldest->id, number);
      index_.erase(oldest);
      ++statistics_.evicted;
    } else {
      // Memory comes first: if there is none, the index must not know the id.
      index_.make_room();
      if (free_rows_.empty()) {
        slabs_.reserve(rows_made_ + 1);
        number = static_cast<std::uint32_t>(rows_made_++);
      } else {
        number = free_rows_.back();
        free_rows_.pop_back();
      }
    }
    index_.insert(id, number, last_used);
    log_.create(number);
    if (tracks_use()) order_.add(last_used, id);
    return number;
  }

  // Removes the rows that were last used before `clock`.
  void remove_before(std::uint32_t clock) {
    const auto is_old = [clock](const RowIndex::Entry& entry) {
      return !entry.is_free() && entry.last_used < clock;
    };
    const std::span<RowIndex::Entry> slots = index_.slots();
    const auto old = static_cast<std::size_t>(std::count_if(slots.begin(), slots.end(), is_old));
    free_rows_.reserve(free_rows_.size() + old);
    for (RowIndex::Entry& entry : slots) {
      // To erase an entry moves another one to its place.
      while (is_old(entry)) {
        free_rows_.push_back(entry.row());
        log_.remove(entry.id, entry.row());
        index_.erase(&entry);
      }
    }
    statistics_.expired += old;
  }

  void tick() {
    if (!tracks_use()) return;
    if (now_ == std::numeric_limits<std::uint32_t>::max()) restart_clock();
    ++now_;
  }

  // The clock has run out of numbers: 1, 2, 3 ... instead of those that rows have, in the same order.
  void restart_clock() {
    std::vector<std::uint32_t> used;
    used.reserve(index_.size());
    for (const RowIndex::Entry& entry : index_.slots()) {
      if (!entry.is_free()) used.push_back(entry.last_used);
    }
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    for (RowIndex::Entry& entry : index_.slots()) {
      if (entry.is_free()) continue;
      const auto at = std::lower_bound(used.begin(), used.end(), entry.last_used);
      entry.last_used = static_cast<std::uint32_t>(at - used.begin()) + 1;
      log_.touch(entry.row());
    }
    now_ = static_cast<std::uint32_t>(used.size());
    days_.renumber(used);
    order_.clear();
  }

  TableSpec spec_;
  std::uint64_t seed_;
  std::uint64_t capacity_;  // rows
  std::unique_ptr<Optimizer> optimizer_;
  Admission admission_;
  RowWeights weights_;
  RowSlabs slabs_;
  RowIndex index_;
  RowPipeline pipeline_;
  EvictionOrder order_;
  std::uint32_t now_ = 0;
  DayList days_;
  std::uint64_t rows_made_ = 0;
  std::vector<std::uint32_t> free_rows_;  // made, and of no id
  ChangeLog log_;
  StoreStatistics statistics_;
};

}  // namespace

void EmbeddingStore::for_each(const Visitor& visit) const {
  std::array<Row, 256> rows;
  Cursor cursor;
  while (const std::size_t n = read(cursor, rows)) {
    for (std::size_t i = 0; i < n; ++i) visit(rows[i].id, rows[i].weights, rows[i].state, rows[i].last_used);
  }
}

std::unique_ptr<EmbeddingStore> make_store(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers) {
  return std::make_unique<SlabStore>(spec, seed, servers);
}

}  // namespace persia
