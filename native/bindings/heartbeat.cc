#include "persia/heartbeat.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bindings.h"

namespace nb = nanobind;

namespace persia::bindings {

void bind_heartbeat(nb::module_& module) {
  nb::class_<Heartbeat>(module, "Heartbeat", "A sign of life of this process, from a thread without the GIL.")
      .def(
          "__init__", [](Heartbeat* at, const std::string& path) { new (at) Heartbeat(path); },
          nb::arg("path"), "Beats from now on, as long as it lives. Raises RuntimeError if it cannot write.");
}

}  // namespace persia::bindings
