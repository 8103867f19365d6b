#include "table_dict.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
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

}  // namespace

TableSpec table_from_dict(const nb::dict& dict) {
  Keys keys(dict, "table");
  TableSpec table;
  table.name = keys.get<std::string>("name");
  const std::string where = "table " + table.name;
  table.prefix = keys.get<std::uint32_t>("prefix");
  table.prefix_bits = keys.get<std::uint32_t>("prefix_bits");
  table.dim = keys.get<std::uint32_t>("dim");
  const auto pooling = keys.get<std::string>("pooling");
  if (pooling != "sum" && pooling != "mean") keys.unknown("pooling", pooling);
  table.pooling = pooling == "mean" ? Pooling::kMean : Pooling::kSum;
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
    const auto type = keys.get<std::string>("weight_type");
    constexpr std::array kTypes{WeightType::kFloat32, WeightType::kBfloat16, WeightType::kFloat16};
    const auto found =
        std::find_if(kTypes.begin(), kTypes.end(), [&](WeightType each) { return type == name_of(each); });
    if (found == kTypes.end()) keys.unknown("weight_type", type);
    table.weight_type = *found;
  }
  if (keys.has("max_age_days")) {
    table.max_age_days = keys.get<std::optional<std::uint32_t>>("max_age_days").value_or(0);
  }
  keys.end();
  return table;
}

}  // namespace persia::bindings
