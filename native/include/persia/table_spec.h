// What an embedding table is: the part of the configuration that servers and workers share.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace persia {

enum class OptimizerKind : std::uint32_t {
  kSgd = 0,
  kAdagrad = 1,
  kRowwiseAdagrad = 2,
  kAdam = 3,
  kFtrl = 4
};
enum class InitializerKind : std::uint32_t { kZeros = 0, kUniform = 1, kNormal = 2, kScaledUniform = 3 };
enum class AdmissionKind : std::uint32_t { kAlways = 0, kSightings = 1, kProbability = 2 };
enum class WeightType : std::uint32_t { kFloat32 = 0, kBfloat16 = 1, kFloat16 = 2 };
// What becomes of the rows of a bag of n ids: their sum, that divided by n, that divided by the square root
// of n, or the rows themselves, in order. A table has one of the first three; kSequence is of a feature.
enum class Pooling : std::uint32_t { kSum = 0, kMean = 1, kSqrtn = 2, kSequence = 3 };

// Which of these a kind has is said by fields_of(); the others are 0.
struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kSgd;
  double learning_rate = 0;
  double initial_accumulator = 0;
  double epsilon = 0;
  double momentum = 0;
  double weight_decay = 0;
  double beta1 = 0;
  double beta2 = 0;
  double beta = 0;
  double l1 = 0;
  double l2 = 0;
};

struct InitializerSpec {
  InitializerKind kind = InitializerKind::kZeros;
  double low = 0;
  double high = 0;
  double mean = 0;
  double std = 0;
  double scale = 0;
};

// Which ids get a row when they are looked up for training.
struct AdmissionSpec {
  AdmissionKind kind = AdmissionKind::kAlways;
  double count = 0;        // sightings: the lookup that creates the row
  double probability = 0;  // probability: of the ids, by a hash of the id
};

struct TableSpec {
  std::string name;
  std::uint32_t prefix = 0;
  std::uint32_t prefix_bits = 0;
  std::uint32_t dim = 0;
  Pooling pooling = Pooling::kSum;  // of its features, unless they have their own
  OptimizerSpec optimizer;
  InitializerSpec initializer;
  AdmissionSpec admission;
  std::uint64_t expected_rows = 0;   // over all servers
  std::uint64_t capacity_bytes = 0;  // on each server; 0 is unbounded
  WeightType weight_type = WeightType::kFloat32;
  std::uint32_t max_age_days = 0;  // without a training lookup, then a row is removed; 0 is never

  bool owns(std::uint64_t id) const { return id >> (64 - prefix_bits) == prefix; }
};

inline constexpr std::uint32_t kMaxDim = 1024;
inline constexpr std::uint32_t kMaxPrefixBits = 16;
inline constexpr std::uint32_t kMaxTables = 4096;
// What a row takes of the capacity beyond its weights and state: index and recency, at a full table.
inline constexpr std::uint64_t kRowOverheadBytes = 24;

// Rows that fit into capacity_bytes: kUnbounded if that is 0.
inline constexpr std::uint64_t kUnbounded = ~std::uint64_t{0};
std::uint64_t capacity_rows(const TableSpec& table);
// What the weights of a row take: 16-bit ones are filled up to 4 bytes, to which the state is aligned.
std::uint32_t weight_row_bytes(WeightType type, std::uint32_t dim);
// Weights and state of a row.
std::uint64_t row_bytes(const TableSpec& table);
// Floats of optimizer state per row.
std::uint32_t state_dim(const OptimizerSpec& optimizer, std::uint32_t dim);

enum class Range { kFinite, kPositive, kNotNegative, kFraction, kProbability, kCount };

// A number in the configuration of an optimizer, an initializer or an admission: on the wire, in a
// dictionary and in messages.
template <typename Spec>
struct Field {
  const char* name;
  double Spec::* member;
  Range range;
  bool optional = false;  // in a dictionary; then it is 0
};

template <typename Spec>
struct Kind {
  const char* name;
  std::vector<Field<Spec>> fields;
};

// All kinds, the number of a kind being its place.
std::span<const Kind<OptimizerSpec>> optimizer_kinds();
std::span<const Kind<InitializerSpec>> initializer_kinds();
std::span<const Kind<AdmissionSpec>> admission_kinds();

// Throws std::invalid_argument naming the table and the field that is wrong, or that two tables clash.
void check_tables(const std::vector<TableSpec>& tables);

std::string to_string(OptimizerKind kind);
// "sum", "mean", "sqrtn" or "sequence"; nullptr if there is no such pooling.
const char* name_of(Pooling pooling);
// "float32", "bfloat16" or "float16"; nullptr if there is no such type.
const char* name_of(WeightType type);

}  // namespace persia
