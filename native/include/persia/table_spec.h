// What an embedding table is: the part of the configuration that servers and workers share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace persia {

enum class OptimizerKind : std::uint32_t { kSgd = 0, kAdagrad = 1 };
enum class InitializerKind : std::uint32_t { kZeros = 0, kUniform = 1 };
enum class Pooling : std::uint32_t { kSum = 0, kMean = 1 };

struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kSgd;
  double learning_rate = 0;
  double initial_accumulator = 0;  // adagrad
  double epsilon = 0;              // adagrad
};

struct InitializerSpec {
  InitializerKind kind = InitializerKind::kZeros;
  double low = 0;   // uniform
  double high = 0;  // uniform
};

struct TableSpec {
  std::string name;
  std::uint32_t prefix = 0;
  std::uint32_t prefix_bits = 0;
  std::uint32_t dim = 0;
  Pooling pooling = Pooling::kSum;
  OptimizerSpec optimizer;
  InitializerSpec initializer;
  std::uint64_t expected_rows = 0;  // over all servers

  bool owns(std::uint64_t id) const { return id >> (64 - prefix_bits) == prefix; }
};

inline constexpr std::uint32_t kMaxDim = 1024;
inline constexpr std::uint32_t kMaxPrefixBits = 16;
inline constexpr std::uint32_t kMaxTables = 4096;

// Throws std::invalid_argument naming the table and the field that is wrong, or that two tables clash.
void check_tables(const std::vector<TableSpec>& tables);

std::string to_string(OptimizerKind kind);

}  // namespace persia
