#include "table_dict.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <array>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

namespace nb = nanobind;

namespace persia::bindings {
namespace {

// Reads the keys of one dictionary and remembers how many, so that unknown ones are found.
class Keys {
 public:
  Keys(const nb::dict& dict, std::string where) : dict_(dict), where_(std::move(where)) {}

  template <typename T>
  T get(const char* key) {
    if (!dict_.contains(key)) throw std::invalid_argument(where_ + ": key " + key + " is missing");
    ++read_;
    try {
      return nb::cast<T>(dict_[key]);
    } catch (const nb::cast_error&) {
      throw std::invalid_argument(where_ + ": key " + key + " has a value of the wrong type or range");
    }
  }
  bool has(const char* key) const { return dict_.contains(key); }
  void end() const {
    if (dict_.size() != read_) throw std::invalid_argument(where_ + " has an unknown key");
  }
  [[noreturn]] void unknown(const char* key, const std::string& value) const {
    throw std::invalid_argument(where_ + ": unknown " + key + " " + value);
  }

 private:
  const nb::dict& dict_;
  std::string where_;
  std::size_t read_ = 0;
};

template <typename Spec>
Spec spec_from_dict(const nb::dict& dict, const std::string& where, std::span<const Kind<Spec>> kinds) {
  Keys keys(dict, where);
  const auto name = keys.get<std::string>("kind");
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    if (name != kinds[kind].name) continue;
    Spec spec;
    spec.kind = static_cast<decltype(spec.kind)>(kind);
    for (const Field<Spec>& field : kinds[kind].fields) {
      if (field.optional && !keys.has(field.name)) continue;
      spec.*field.member = keys.get<double>(field.name);
    }
    keys.end();
    return spec;
  }
  keys.unknown("kind", name);
}

// The one of `values` that the key names.
template <typename Value, std::size_t n>
Value named(Keys& keys, const char* key, const std::array<Value, n>& values) {
  const auto name = keys.get<std::string>(key);
  for (const Value value : values) {
    if (name == name_of(value)) return value;
  }
  keys.unknown(key, name);
}

}  // namespace

WeightType weight_type_named(const std::string& name, const char* key) {
  for (const WeightType type : {WeightType::kFloat32, WeightType::kBfloat16, WeightType::kFloat16}) {
    if (name == name_of(type)) return type;
  }
  throw std::invalid_argument(std::string("unknown ") + key + " " + name);
}

TableSpec table_from_dict(const nb::dict& dict) {
  Keys keys(dict, "table");
  TableSpec table;
  table.name = keys.get<std::string>("name");
  const std::string where = "table " + table.name;
  table.prefix = keys.get<std::uint32_t>("prefix");
  table.prefix_bits = keys.get<std::uint32_t>("prefix_bits");
  table.dim = keys.get<std::uint32_t>("dim");
  table.pooling = named(keys, "pooling", std::array{Pooling::kSum, Pooling::kMean, Pooling::kSqrtn});
  table.optimizer = spec_from_dict(keys.get<nb::dict>("optimizer"), where + ": optimizer", optimizer_kinds());
  table.initializer =
      spec_from_dict(keys.get<nb::dict>("initializer"), where + ": initializer", initializer_kinds());
  if (keys.has("admission")) {
    table.admission =
        spec_from_dict(keys.get<nb::dict>("admission"), where + ": admission", admission_kinds());
  }
  table.expected_rows = keys.get<std::uint64_t>("expected_rows");
  if (keys.has("capacity_bytes")) {
    table.capacity_bytes = keys.get<std::optional<std::uint64_t>>("capacity_bytes").value_or(0);
  }
  if (keys.has("weight_type")) {
    table.weight_type = named(keys, "weight_type",
                              std::array{WeightType::kFloat32, WeightType::kBfloat16, WeightType::kFloat16});
  }
  if (keys.has("max_age_days")) {
    table.max_age_days = keys.get<std::optional<std::uint32_t>>("max_age_days").value_or(0);
  }
  keys.end();
  return table;
}

FeatureSpec feature_from_object(const nb::object& feature, const std::vector<TableSpec>& tables) {
  FeatureSpec spec;
  const bool is_dict = nb::isinstance<nb::dict>(feature);
  const auto dict = is_dict ? nb::cast<nb::dict>(feature) : nb::dict();
  Keys keys(dict, "feature");
  if (is_dict) {
    spec.table = keys.get<std::uint32_t>("table");
  } else if (!nb::try_cast(feature, spec.table)) {
    throw std::invalid_argument("a feature is a dictionary or the number of a table");
  }
  if (spec.table >= tables.size()) throw std::invalid_argument("a feature names a table that is not there");
  spec.pooling = tables[spec.table].pooling;
  if (is_dict) {
    spec.pooling = named(keys, "pooling",
                         std::array{Pooling::kSum, Pooling::kMean, Pooling::kSqrtn, Pooling::kSequence});
    spec.length = keys.get<std::uint32_t>("length");
  }
  keys.end();
  return spec;
}

}  // namespace persia::bindings
