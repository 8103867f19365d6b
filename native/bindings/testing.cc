// For tests: a server without a carrier, so that any bytes at all can be put before it.
#include <nanobind/nanobind.h>

#include "bindings.h"
#include "persia/server.h"

namespace nb = nanobind;

namespace persia::bindings {
namespace {

nb::list handle(Server& server, const nb::bytes& frame) {
  nb::list replies;
  for (const Outgoing& reply :
       server.handle({}, {static_cast<const std::byte*>(frame.data()), frame.size()})) {
    replies.append(nb::bytes(reply.frame.data(), reply.frame.size()));
  }
  return replies;
}

}  // namespace

void bind_testing(nb::module_& module) {
  nb::class_<Server>(module, "InProcessServer", "An embedding server for tests: frames in, frames out.")
      .def(
          "__init__",
          [](Server* at, std::uint32_t index, std::uint32_t threads, std::uint64_t max_frame_bytes) {
            new (at) Server(index, {threads, max_frame_bytes});
          },
          nb::arg("index"), nb::arg("threads") = 1,
          nb::arg("max_frame_bytes") = ServerOptions{}.max_frame_bytes)
      .def("handle", &handle, nb::arg("frame"), "The replies that the frame brings about, as frames.");
}

}  // namespace persia::bindings
