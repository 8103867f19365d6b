#pragma once

#include <nanobind/nanobind.h>

#include "persia/messages.h"

namespace persia::bindings {

// The counters of a server as nested dictionaries; see docs/formats/wire.md.
nanobind::dict stats_to_dict(const StatsReply& reply);

}  // namespace persia::bindings
