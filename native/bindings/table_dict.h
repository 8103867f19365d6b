// Tables as persia_core/embedding/tables.py describes them.
#pragma once

#include <nanobind/nanobind.h>

#include "persia/table_spec.h"

namespace persia::bindings {

// Throws std::invalid_argument where a key is missing, unknown or has a wrong value.
TableSpec table_from_dict(const nanobind::dict& table);

}  // namespace persia::bindings
