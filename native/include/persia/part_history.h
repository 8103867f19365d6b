// What a table remembers beside its rows, as tensors of an embedding part.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "persia/codec.h"
#include "persia/id_index.h"
#include "persia/store.h"

namespace persia {

struct SmallTensor {
  std::string name;
  const char* dtype;
  std::vector<std::uint64_t> shape;
  Bytes data;
};

// Those of one table, in the order in which they lie in the part.
std::vector<SmallTensor> history_tensors(const std::string& table, const EmbeddingStore& store);

// `<table>.removed_ids` of a delta.
SmallTensor removed_tensor(const std::string& table, const EmbeddingStore& store);

// From the values of `<table>.clock` [0 or 1] and `<table>.days` [d, 2]. Throws std::invalid_argument.
TableClock clock_from(std::span<const std::uint64_t> clock, std::span<const std::uint64_t> days);

// Collects what was seen of the ids of `server` from several parts. Throws std::invalid_argument.
class SightingsReader {
 public:
  SightingsReader(const TableSpec& table, std::uint32_t server, std::uint32_t servers)
      : table_(table), server_(server), servers_(servers) {}
  // `<table>.seen_ids` and `<table>.sightings` of a part.
  void add(std::span<const std::uint64_t> ids, std::span<const std::uint8_t> counts);
  Sightings seen() const;

 private:
  const TableSpec& table_;
  std::uint32_t server_;
  std::uint32_t servers_;
  IdIndex index_;
  std::vector<std::uint8_t> counts_;  // by the id's index
};

}  // namespace persia
