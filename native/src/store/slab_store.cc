// Rows in slabs of a fixed number, weights and optimizer state side by side, found by an IdIndex.
#include <algorithm>
#include <cstring>

#include "persia/id_index.h"
#include "persia/initializer.h"
#include "persia/optimizer.h"
#include "persia/store.h"

namespace persia {
namespace {

constexpr std::size_t kRowsPerSlab = 1024;
// expected_rows is a hint: a wrong one must not take all memory before the first row.
constexpr std::uint64_t kMaxReserved = 1 << 20;

class SlabStore final : public EmbeddingStore {
 public:
  SlabStore(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers)
      : spec_(spec),
        seed_(seed),
        optimizer_(make_optimizer(spec.optimizer, spec.dim)),
        row_floats_(spec.dim + optimizer_->state_dim()),
        index_(static_cast<std::size_t>(std::min(spec.expected_rows / servers, kMaxReserved))) {}

  std::uint32_t dim() const override { return spec_.dim; }
  std::uint32_t state_dim() const override { return optimizer_->state_dim(); }

  void lookup_training(std::span<const std::uint64_t> ids, std::span<float> weights) override {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      bool created = false;
      const std::span<float> row = find_or_create(ids[i], created);
      if (created) {
        initialise_weights(spec_.initializer, seed_, ids[i], row.first(dim()));
        optimizer_->initialise(row.subspan(dim()));
        ++statistics_.created;
      }
      ++(created ? statistics_.misses : statistics_.hits);
      std::copy_n(row.begin(), dim(), weights.begin() + static_cast<std::ptrdiff_t>(i * dim()));
    }
  }

  std::vector<std::uint32_t> lookup_evaluation(std::span<const std::uint64_t> ids,
                                               std::span<float> weights) override {
    std::vector<std::uint32_t> missing;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::span<float> to = weights.subspan(i * dim(), dim());
      const std::uint32_t index = index_.find(ids[i]);
      if (index == IdIndex::kAbsent) {
        missing.push_back(static_cast<std::uint32_t>(i));
        std::fill(to.begin(), to.end(), 0.0f);
      } else {
        std::copy_n(row_at(index).begin(), dim(), to.begin());
      }
    }
    statistics_.misses += missing.size();
    statistics_.hits += ids.size() - missing.size();
    return missing;
  }

  void update(std::span<const std::uint64_t> ids, std::span<const float> gradients) override {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::uint32_t index = index_.find(ids[i]);
      if (index == IdIndex::kAbsent) {
        ++statistics_.updates_missing;
        continue;
      }
      const std::span<float> row = row_at(index);
      optimizer_->step(row.first(dim()), row.subspan(dim()), gradients.subspan(i * dim(), dim()));
      ++statistics_.updates;
    }
  }

  bool insert(std::uint64_t id, std::span<const float> weights, std::span<const float> state) override {
    bool created = false;
    const std::span<float> row = find_or_create(id, created);
    if (!created) return false;
    std::copy(weights.begin(), weights.end(), row.begin());
    std::copy(state.begin(), state.end(), row.begin() + dim());
    return true;
  }

  void for_each(const Visitor& visit) const override {
    index_.for_each([&](std::uint64_t id, std::uint32_t index) {
      const std::span<const float> row = row_at(index);
      visit(id, row.first(dim()), row.subspan(dim()));
    });
  }

  StoreStatistics statistics() const override {
    StoreStatistics result = statistics_;
    result.rows = index_.size();
    result.bytes = slabs_.size() * kRowsPerSlab * row_floats_ * sizeof(float) + index_.bytes();
    result.lookups = result.hits + result.misses;
    return result;
  }

 private:
  std::span<float> row_at(std::uint32_t index) const {
    return {slabs_[index / kRowsPerSlab].get() + index % kRowsPerSlab * row_floats_, row_floats_};
  }

  std::span<float> find_or_create(std::uint64_t id, bool& created) {
    // The slab comes first: if there is no memory for it, the index must not know the id.
    if (index_.size() == slabs_.size() * kRowsPerSlab) {
      slabs_.push_back(std::make_unique_for_overwrite<float[]>(kRowsPerSlab * row_floats_));
    }
    const auto [index, is_new] = index_.insert(id);
    created = is_new;
    return row_at(index);
  }

  TableSpec spec_;
  std::uint64_t seed_;
  std::unique_ptr<Optimizer> optimizer_;
  std::size_t row_floats_;
  IdIndex index_;
  std::vector<std::unique_ptr<float[]>> slabs_;
  StoreStatistics statistics_;
};

}  // namespace

std::unique_ptr<EmbeddingStore> make_store(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers) {
  return std::make_unique<SlabStore>(spec, seed, servers);
}

}  // namespace persia
