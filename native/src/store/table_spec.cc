#include "persia/table_spec.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

namespace persia {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_name(const std::string& name) {
  if (name.empty() || name.size() > 64 || !is_letter(name[0])) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_'; });
}

void check(const TableSpec& table) {
  const auto require = [&](bool holds, const char* what) {
    if (!holds) throw std::invalid_argument("table " + table.name + ": " + what);
  };
  if (!is_name(table.name))
    throw std::invalid_argument("a table name is a letter, then up to 63 letters, digits and _");
  require(table.prefix_bits >= 1 && table.prefix_bits <= kMaxPrefixBits, "prefix_bits must be from 1 to 16");
  require(table.prefix >> table.prefix_bits == 0, "prefix does not fit in prefix_bits");
  require(table.dim >= 1 && table.dim <= kMaxDim, "dim must be from 1 to 1024");
  require(table.pooling == Pooling::kSum || table.pooling == Pooling::kMean, "unknown pooling");
  const OptimizerSpec& optimizer = table.optimizer;
  require(optimizer.kind == OptimizerKind::kSgd || optimizer.kind == OptimizerKind::kAdagrad,
          "unknown optimizer");
  require(std::isfinite(optimizer.learning_rate) && optimizer.learning_rate > 0, "learning_rate must be > 0");
  if (optimizer.kind == OptimizerKind::kAdagrad) {
    require(std::isfinite(optimizer.initial_accumulator) && optimizer.initial_accumulator >= 0,
            "initial_accumulator must be >= 0");
    require(std::isfinite(optimizer.epsilon) && optimizer.epsilon > 0, "epsilon must be > 0");
  }
  const InitializerSpec& initializer = table.initializer;
  require(initializer.kind == InitializerKind::kZeros || initializer.kind == InitializerKind::kUniform,
          "unknown initializer");
  if (initializer.kind == InitializerKind::kUniform) {
    const auto low = static_cast<float>(initializer.low);
    const auto high = static_cast<float>(initializer.high);
    require(std::isfinite(low) && std::isfinite(high) && low < high,
            "uniform needs low < high, in float32 too");
  }
}

}  // namespace

void check_tables(const std::vector<TableSpec>& tables) {
  if (tables.empty() || tables.size() > kMaxTables)
    throw std::invalid_argument("there must be 1 to 4096 tables");
  std::set<std::string> names;
  std::set<std::uint32_t> prefixes;
  for (const TableSpec& table : tables) {
    check(table);
    if (table.prefix_bits != tables[0].prefix_bits) {
      throw std::invalid_argument("table " + table.name + ": prefix_bits must be the same for all tables");
    }
    if (!names.insert(table.name).second)
      throw std::invalid_argument("table " + table.name + " is there twice");
    if (!prefixes.insert(table.prefix).second) {
      throw std::invalid_argument("table " + table.name + ": another table has the same prefix");
    }
  }
}

std::string to_string(OptimizerKind kind) {
  return kind == OptimizerKind::kAdagrad ? "adagrad" : "sgd";
}

}  // namespace persia
