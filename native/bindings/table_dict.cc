#include "table_dict.h"

#include <nanobind/stl/string.h>

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

OptimizerSpec optimizer_from_dict(const nb::dict& dict, const std::string& where) {
  Keys keys(dict, where + ": optimizer");
  OptimizerSpec spec;
  const auto kind = keys.get<std::string>("kind");
  spec.learning_rate = keys.get<double>("learning_rate");
  if (kind == "adagrad") {
    spec.kind = OptimizerKind::kAdagrad;
    spec.initial_accumulator = keys.get<double>("initial_accumulator");
    spec.epsilon = keys.get<double>("epsilon");
  } else if (kind != "sgd") {
    keys.unknown("kind", kind);
  }
  keys.end();
  return spec;
}

InitializerSpec initializer_from_dict(const nb::dict& dict, const std::string& where) {
  Keys keys(dict, where + ": initializer");
  InitializerSpec spec;
  const auto kind = keys.get<std::string>("kind");
  if (kind == "uniform") {
    spec.kind = InitializerKind::kUniform;
    spec.low = keys.get<double>("low");
    spec.high = keys.get<double>("high");
  } else if (kind != "zeros") {
    keys.unknown("kind", kind);
  }
  keys.end();
  return spec;
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
  table.optimizer = optimizer_from_dict(keys.get<nb::dict>("optimizer"), where);
  table.initializer = initializer_from_dict(keys.get<nb::dict>("initializer"), where);
  table.expected_rows = keys.get<std::uint64_t>("expected_rows");
  keys.end();
  return table;
}

}  // namespace persia::bindings
