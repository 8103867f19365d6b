#pragma once

#include <nanobind/nanobind.h>

namespace persia::bindings {

void bind_heartbeat(nanobind::module_& module);
void bind_ids(nanobind::module_& module);
void bind_store(nanobind::module_& module);
void bind_worker(nanobind::module_& module);
void bind_testing(nanobind::module_& module);

}  // namespace persia::bindings
