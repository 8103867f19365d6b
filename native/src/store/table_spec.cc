#include "persia/table_spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <stdexcept>

namespace persia {
namespace {

constexpr double kLargestFloat16 = 65504;

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_name(const std::string& name) {
  if (name.empty() || name.size() > 64 || !is_letter(name[0])) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_'; });
}

// nullptr if `value` is in `range`, else what it must be. Also as float32, in which rows are computed.
const char* out_of(Range range, double value) {
  const auto narrow = static_cast<float>(value);
  if (!std::isfinite(narrow)) return "must be finite, in float32 too";
  switch (range) {
    case Range::kFinite: return nullptr;
    case Range::kPositive: return narrow > 0 ? nullptr : "must be > 0";
    case Range::kNotNegative: return value >= 0 ? nullptr : "must be >= 0";
    case Range::kFraction: return value >= 0 && narrow < 1 ? nullptr : "must be >= 0 and < 1";
    case Range::kProbability: return value > 0 && value <= 1 ? nullptr : "must be > 0 and <= 1";
    case Range::kCount:
      return value >= 1 && value <= 255 && value == std::floor(value) ? nullptr : "must be from 1 to 255";
  }
  return "has no range";
}

class Checker {
 public:
  explicit Checker(const TableSpec& table) : name_(table.name) {}
  void require(bool holds, const std::string& what) const {
    if (!holds) throw std::invalid_argument("table " + name_ + ": " + what);
  }
  // Every number of the kind is in its range.
  template <typename Spec>
  void fields(const Spec& spec, std::span<const Kind<Spec>> kinds, const char* what) const {
    const auto kind = static_cast<std::size_t>(spec.kind);
    require(kind < kinds.size(), std::string("unknown ") + what);
    for (const Field<Spec>& field : kinds[kind].fields) {
      if (const char* wrong = out_of(field.range, spec.*field.member)) {
        require(false, std::string(field.name) + " " + wrong);
      }
    }
  }

 private:
  const std::string& name_;
};

void check(const TableSpec& table) {
  if (!is_name(table.name))
    throw std::invalid_argument("a table name is a letter, then up to 63 letters, digits and _");
  const Checker checker(table);
  checker.require(table.prefix_bits >= 1 && table.prefix_bits <= kMaxPrefixBits,
                  "prefix_bits must be from 1 to 16");
  checker.require(table.prefix >> table.prefix_bits == 0, "prefix does not fit in prefix_bits");
  checker.require(table.dim >= 1 && table.dim <= kMaxDim, "dim must be from 1 to 1024");
  checker.require(name_of(table.pooling) != nullptr && table.pooling != Pooling::kSequence,
                  "unknown pooling");
  checker.require(name_of(table.weight_type) != nullptr, "unknown weight_type");
  checker.fields(table.optimizer, optimizer_kinds(), "optimizer");
  checker.fields(table.initializer, initializer_kinds(), "initializer");
  checker.fields(table.admission, admission_kinds(), "admission");
  if (table.initializer.kind == InitializerKind::kUniform) {
    checker.require(static_cast<float>(table.initializer.low) < static_cast<float>(table.initializer.high),
                    "uniform needs low < high, in float32 too");
    const double largest = std::max(std::abs(table.initializer.low), std::abs(table.initializer.high));
    checker.require(table.weight_type != WeightType::kFloat16 || largest <= kLargestFloat16,
                    "uniform reaches beyond 65504, the largest float16");
  }
  checker.require(capacity_rows(table) >= 1, "capacity_bytes is less than one row takes");
}

}  // namespace

std::span<const Kind<OptimizerSpec>> optimizer_kinds() {
  using S = OptimizerSpec;
  static const Field<S> rate{"learning_rate", &S::learning_rate, Range::kPositive};
  static const Field<S> accumulator{"initial_accumulator", &S::initial_accumulator, Range::kNotNegative};
  static const Field<S> epsilon{"epsilon", &S::epsilon, Range::kPositive};
  static const std::array<Kind<S>, 5> kinds{{
      {"sgd",
       {rate,
        {"momentum", &S::momentum, Range::kFraction, true},
        {"weight_decay", &S::weight_decay, Range::kNotNegative, true}}},
      {"adagrad", {rate, accumulator, epsilon}},
      {"rowwise_adagrad", {rate, accumulator, epsilon}},
      {"adam",
       {rate, {"beta1", &S::beta1, Range::kFraction}, {"beta2", &S::beta2, Range::kFraction}, epsilon}},
      {"ftrl",
       {rate,
        accumulator,
        {"beta", &S::beta, Range::kNotNegative},
        {"l1", &S::l1, Range::kNotNegative},
        {"l2", &S::l2, Range::kNotNegative}}},
  }};
  return kinds;
}

std::span<const Kind<InitializerSpec>> initializer_kinds() {
  using S = InitializerSpec;
  static const std::array<Kind<S>, 4> kinds{{
      {"zeros", {}},
      {"uniform", {{"low", &S::low, Range::kFinite}, {"high", &S::high, Range::kFinite}}},
      {"normal", {{"mean", &S::mean, Range::kFinite}, {"std", &S::std, Range::kPositive}}},
      {"scaled_uniform", {{"scale", &S::scale, Range::kPositive}}},
  }};
  return kinds;
}

std::span<const Kind<AdmissionSpec>> admission_kinds() {
  using S = AdmissionSpec;
  static const std::array<Kind<S>, 3> kinds{{
      {"always", {}},
      {"sightings", {{"count", &S::count, Range::kCount}}},
      {"probability", {{"probability", &S::probability, Range::kProbability}}},
  }};
  return kinds;
}

std::uint32_t state_dim(const OptimizerSpec& optimizer, std::uint32_t dim) {
  switch (optimizer.kind) {
    case OptimizerKind::kSgd: return optimizer.momentum > 0 ? dim : 0;
    case OptimizerKind::kAdagrad: return dim;
    case OptimizerKind::kRowwiseAdagrad: return 1;
    case OptimizerKind::kAdam: return 2 * dim + 1;
    case OptimizerKind::kFtrl: return 2 * dim;
  }
  throw std::invalid_argument("unknown optimizer");
}

std::uint64_t capacity_rows(const TableSpec& table) {
  if (table.capacity_bytes == 0) return kUnbounded;
  return table.capacity_bytes / (row_bytes(table) + kRowOverheadBytes);
}

std::uint32_t weight_row_bytes(WeightType type, std::uint32_t dim) {
  return type == WeightType::kFloat32 ? 4 * dim : (2 * dim + 3) / 4 * 4;
}

std::uint64_t row_bytes(const TableSpec& table) {
  return weight_row_bytes(table.weight_type, table.dim) +
         4 * std::uint64_t{state_dim(table.optimizer, table.dim)};
}

const char* name_of(Pooling pooling) {
  switch (pooling) {
    case Pooling::kSum: return "sum";
    case Pooling::kMean: return "mean";
    case Pooling::kSqrtn: return "sqrtn";
    case Pooling::kSequence: return "sequence";
  }
  return nullptr;
}

const char* name_of(WeightType type) {
  switch (type) {
    case WeightType::kFloat32: return "float32";
    case WeightType::kBfloat16: return "bfloat16";
    case WeightType::kFloat16: return "float16";
  }
  return nullptr;
}

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
  return optimizer_kinds()[static_cast<std::size_t>(kind)].name;
}

}  // namespace persia
