// Rows in slabs, weights and optimizer state side by side, found by a RowIndex.
//
// A batch goes through three stages, each some ids ahead of the next, so that memory is read while other
// ids are worked on: fetch the index entry, find it and fetch the row, use the row.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "persia/admission.h"
#include "persia/eviction_order.h"
#include "persia/initializer.h"
#include "persia/optimizer.h"
#include "persia/row_index.h"
#include "persia/row_slabs.h"
#include "persia/store.h"

namespace persia {
namespace {

// expected_rows is a hint: a wrong one must not take all memory before the first row.
constexpr std::uint64_t kMaxReserved = 1 << 20;
constexpr std::size_t kRing = 64;        // at least kEntryAhead + the most rows ahead
constexpr std::size_t kEntryAhead = 16;  // of the stage that finds it
constexpr std::size_t kMostRowsAhead = 32;
constexpr std::size_t kBytesAhead = 4096;  // more than this and they push each other out of the cache
constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kSteps = 16;  // rows that an optimizer gets at once

void copy_row(float* to, const float* from, std::size_t dim) {
  // Constant sizes become a few instructions; a call for 64 bytes costs more than the copying.
  switch (dim) {
    case 8: std::memcpy(to, from, 8 * sizeof(float)); return;
    case 16: std::memcpy(to, from, 16 * sizeof(float)); return;
    case 32: std::memcpy(to, from, 32 * sizeof(float)); return;
    case 64: std::memcpy(to, from, 64 * sizeof(float)); return;
    default: std::memcpy(to, from, dim * sizeof(float)); return;
  }
}

class SlabStore final : public EmbeddingStore {
 public:
  SlabStore(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers)
      : spec_(spec),
        seed_(seed),
        capacity_(capacity_rows(spec)),
        optimizer_(make_optimizer(spec.optimizer, spec.dim)),
        admission_(spec.admission, seed),
        row_floats_(spec.dim + optimizer_->state_dim()),
        slabs_(row_floats_),
        index_(std::min({spec.expected_rows / servers, kMaxReserved, capacity_}), capacity_) {}

  std::uint32_t dim() const override { return spec_.dim; }
  std::uint32_t state_dim() const override { return optimizer_->state_dim(); }
  bool tracks_use() const override { return capacity_ != kUnbounded; }

  std::vector<std::uint32_t> lookup_training(std::span<const std::uint64_t> ids,
                                             std::span<float> weights) override {
    tick();
    const bool tracks = tracks_use();
    std::vector<std::uint32_t> missing;
    std::uint64_t created = 0;
    visit<false>(ids, dim(), [&](std::size_t i, RowIndex::Entry* entry) {
      float* to = weights.data() + i * dim();
      if (entry != nullptr) {
        if (tracks && entry->last_used != now_) {
          entry->last_used = now_;
          order_.add(now_, ids[i]);
        }
        copy_row(to, slabs_.row(entry->row()), dim());
        return false;
      }
      if (!admission_.admits(ids[i])) {
        missing.push_back(static_cast<std::uint32_t>(i));
        std::fill_n(to, dim(), 0.0f);
        return false;
      }
      bool moved = false;
      float* row = create(ids[i], now_, moved);
      initialise_weights(spec_.initializer, seed_, ids[i], {row, dim()});
      optimizer_->initialise({row + dim(), state_dim()});
      ++created;
      copy_row(to, row, dim());
      return moved;
    });
    statistics_.created += created;
    statistics_.not_admitted += missing.size();
    statistics_.misses += created + missing.size();
    statistics_.hits += ids.size() - created - missing.size();
    return missing;
  }

  std::vector<std::uint32_t> lookup_evaluation(std::span<const std::uint64_t> ids,
                                               std::span<float> weights) override {
    std::vector<std::uint32_t> missing;
    visit<false>(ids, dim(), [&](std::size_t i, const RowIndex::Entry* entry) {
      float* to = weights.data() + i * dim();
      if (entry == nullptr) {
        missing.push_back(static_cast<std::uint32_t>(i));
        std::fill_n(to, dim(), 0.0f);
      } else {
        copy_row(to, slabs_.row(entry->row()), dim());
      }
      return false;
    });
    statistics_.misses += missing.size();
    statistics_.hits += ids.size() - missing.size();
    return missing;
  }

  void update(std::span<const std::uint64_t> ids, std::span<const float* const> gradients) override {
    std::array<RowStep, kSteps> steps;
    std::size_t waiting = 0;
    std::uint64_t missing = 0;
    const auto take = [&] {
      optimizer_->step(std::span(steps).first(waiting));
      waiting = 0;
    };
    visit<true>(ids, row_floats_, [&](std::size_t i, const RowIndex::Entry* entry) {
      if (entry == nullptr) {
        ++missing;
        return false;
      }
      steps[waiting++] = {slabs_.row(entry->row()), gradients[i]};
      if (waiting == kSteps) take();
      return false;
    });
    take();
    statistics_.updates_missing += missing;
    statistics_.updates += ids.size() - missing;
  }

  bool insert(std::uint64_t id, std::span<const float> weights, std::span<const float> state,
              std::uint32_t last_used) override {
    if (index_.find(id) != nullptr) return false;
    now_ = std::max(now_, last_used);
    if (index_.size() >= capacity_) {
      const RowIndex::Entry* oldest = order_.oldest(index_);
      if (EvictionOrder::Key{last_used, id} < EvictionOrder::Key{oldest->last_used, oldest->id}) {
        ++statistics_.evicted;
        return true;
      }
    }
    bool moved = false;
    float* row = create(id, last_used, moved);
    std::copy(weights.begin(), weights.end(), row);
    std::copy(state.begin(), state.end(), row + dim());
    return true;
  }

  void for_each(const Visitor& visit_row) const override {
    for (const RowIndex::Entry& entry : index_.slots()) {
      if (entry.is_free()) continue;
      const float* row = slabs_.row(entry.row());
      visit_row(entry.id, {row, dim()}, {row + dim(), state_dim()}, entry.last_used);
    }
  }

  StoreStatistics statistics() const override {
    StoreStatistics result = statistics_;
    result.rows = index_.size();
    result.bytes = rows_made_ * slabs_.row_bytes() + index_.bytes() + order_.bytes();
    result.lookups = result.hits + result.misses;
    return result;
  }

 private:
  // Calls use(i, entry of ids[i] or nullptr) in order; it returns true if entries have moved to other memory.
  // Of each row, the first `floats` are fetched.
  template <bool kWrite, typename Use>
  void visit(std::span<const std::uint64_t> ids, std::size_t floats, Use&& use) const {
    const std::size_t row_bytes = floats * sizeof(float);
    const std::size_t rows_ahead = std::clamp<std::size_t>(kBytesAhead / row_bytes, 4, kMostRowsAhead);
    const std::size_t entries_ahead = rows_ahead + kEntryAhead;
    std::array<RowIndex::Entry*, kRing> ring{};  // the home, then the entry; nullptr is: not known
    const std::size_t n = ids.size();
    const auto fetch_entry = [&](std::size_t i) {
      RowIndex::Entry* home = index_.home(ids[i]);
      RowIndex::prefetch(home);
      ring[i % kRing] = home;
    };
    const auto fetch_row = [&](std::size_t i) {
      RowIndex::Entry*& at = ring[i % kRing];
      if (at == nullptr) return;
      at = index_.find_from(at, ids[i]);
      if (at == nullptr) return;
      const auto* row = reinterpret_cast<const std::byte*>(slabs_.row(at->row()));
      for (std::size_t byte = 0; byte < row_bytes; byte += kCacheLine) {
        __builtin_prefetch(row + byte, kWrite ? 1 : 0);
      }
    };
    for (std::size_t i = 0; i < std::min(n, entries_ahead); ++i) fetch_entry(i);
    for (std::size_t i = 0; i < std::min(n, rows_ahead); ++i) fetch_row(i);
    for (std::size_t i = 0; i < n; ++i) {
      if (i + entries_ahead < n) fetch_entry(i + entries_ahead);
      if (i + rows_ahead < n) fetch_row(i + rows_ahead);
      RowIndex::Entry* entry = ring[i % kRing];
      // Since it was found, the row may have been created, evicted or its entry moved.
      if (entry == nullptr || entry->id != ids[i] || entry->is_free()) entry = index_.find(ids[i]);
      if (use(i, entry)) ring.fill(nullptr);
    }
  }

  // A row for an id that has none; evicts if the table is full.
  float* create(std::uint64_t id, std::uint32_t last_used, bool& moved) {
    std::uint32_t number = 0;
    if (index_.size() >= capacity_) {
      RowIndex::Entry* oldest = order_.oldest(index_);
      number = oldest->row();
      index_.erase(oldest);
      ++statistics_.evicted;
    } else {
      // Memory comes first: if there is none, the index must not know the id.
      moved = index_.make_room();
      slabs_.reserve(index_.size() + 1);
      number = static_cast<std::uint32_t>(index_.size());
      ++rows_made_;
    }
    index_.insert(id, number, last_used);
    if (tracks_use()) order_.add(last_used, id);
    return slabs_.row(number);
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
    }
    now_ = static_cast<std::uint32_t>(used.size());
    order_.clear();
  }

  TableSpec spec_;
  std::uint64_t seed_;
  std::uint64_t capacity_;  // rows
  std::unique_ptr<Optimizer> optimizer_;
  Admission admission_;
  std::size_t row_floats_;
  RowSlabs slabs_;
  RowIndex index_;
  EvictionOrder order_;
  std::uint32_t now_ = 0;
  std::uint64_t rows_made_ = 0;
  StoreStatistics statistics_;
};

}  // namespace

std::unique_ptr<EmbeddingStore> make_store(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers) {
  return std::make_unique<SlabStore>(spec, seed, servers);
}

}  // namespace persia
