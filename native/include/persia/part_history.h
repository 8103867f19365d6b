// What a table remembers beside its rows, as tensors of an embedding part.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "persia/codec.h"
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

// From the values of `<table>.clock` [0 or 1] and `<table>.days` [d, 2]. Throws std::invalid_argument.
TableClock clock_from(std::span<const std::uint64_t> clock, std::span<const std::uint64_t> days);

}  // namespace persia
