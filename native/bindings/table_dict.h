// Tables and features as persia_core/embedding/tables.py describes them.
#pragma once

#include <nanobind/nanobind.h>

#include "persia/batch_plan.h"
#include "persia/table_spec.h"

namespace persia::bindings {

// Throws std::invalid_argument where a key is missing, unknown or has a wrong value.
TableSpec table_from_dict(const nanobind::dict& table);

// Throws std::invalid_argument naming `key` where there is no such type.
WeightType weight_type_named(const std::string& name, const char* key);

// A dictionary, or the number of a table alone: a feature with that table's pooling. Throws the same.
FeatureSpec feature_from_object(const nanobind::object& feature, const std::vector<TableSpec>& tables);

}  // namespace persia::bindings
