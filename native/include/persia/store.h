// The rows of one embedding table on one server.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "persia/table_spec.h"

namespace persia {

struct StoreStatistics {
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;    // rows and index, as allocated
  std::uint64_t lookups = 0;  // ids, not requests; hits + misses
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t created = 0;
  std::uint64_t updates = 0;          // optimizer steps
  std::uint64_t updates_missing = 0;  // gradients of ids that have no row
};

// Not thread-safe: one thread of a server owns it.
class EmbeddingStore {
 public:
  // weights [dim] and state [state_dim] of one row; valid until the store changes.
  using Visitor =
      std::function<void(std::uint64_t id, std::span<const float> weights, std::span<const float> state)>;

  virtual ~EmbeddingStore() = default;
  virtual std::uint32_t dim() const = 0;
  virtual std::uint32_t state_dim() const = 0;
  // Weights of `ids` into `weights` [ids, dim]. An id seen for the first time gets its initial row.
  virtual void lookup_training(std::span<const std::uint64_t> ids, std::span<float> weights) = 0;
  // The same without creating: ids that have no row read as zeros, and their positions are returned.
  virtual std::vector<std::uint32_t> lookup_evaluation(std::span<const std::uint64_t> ids,
                                                       std::span<float> weights) = 0;
  // One optimizer step per id. `ids` are distinct (see sum_by_id); gradients [ids, dim] are finite.
  // An id that has no row is counted and its gradient is dropped: it reaches no other row.
  virtual void update(std::span<const std::uint64_t> ids, std::span<const float> gradients) = 0;
  // False, changing nothing, if the id has a row already.
  virtual bool insert(std::uint64_t id, std::span<const float> weights, std::span<const float> state) = 0;
  // Every row, in no particular order.
  virtual void for_each(const Visitor& visit) const = 0;
  virtual StoreStatistics statistics() const = 0;
};

std::unique_ptr<EmbeddingStore> make_store(const TableSpec& spec, std::uint64_t seed, std::uint32_t servers);

}  // namespace persia
