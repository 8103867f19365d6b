#include <nanobind/ndarray.h>

#include <stdexcept>

#include "bindings.h"
#include "persia/ids.h"
#include "persia/initializer.h"
#include "persia/weight_type.h"
#include "table_dict.h"

namespace nb = nanobind;

namespace persia::bindings {
namespace {

using IdArray = nb::ndarray<const std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::span<const std::byte> view(const nb::bytes& data) {
  return {static_cast<const std::byte*>(data.data()), data.size()};
}

nb::ndarray<nb::numpy, std::uint32_t, nb::ndim<1>> servers_of(const IdArray& ids, std::uint32_t servers) {
  if (servers < 1) throw std::invalid_argument("servers must be 1 or more");
  auto* result = new std::uint32_t[ids.shape(0)];
  const nb::capsule owner(result, [](void* p) noexcept { delete[] static_cast<std::uint32_t*>(p); });
  for (std::size_t i = 0; i < ids.shape(0); ++i) result[i] = server_of(ids.data()[i], servers);
  return {result, {ids.shape(0)}, owner};
}

nb::ndarray<nb::numpy, float, nb::ndim<2>> initial_rows(const nb::dict& table, std::uint64_t seed,
                                                        const IdArray& ids) {
  const TableSpec spec = table_from_dict(table);
  check_tables({spec});
  auto* result = new float[ids.shape(0) * spec.dim];
  const nb::capsule owner(result, [](void* p) noexcept { delete[] static_cast<float*>(p); });
  const RowWeights weights(spec.weight_type, spec.dim);
  std::vector<std::uint32_t> stored(weight_row_bytes(spec.weight_type, spec.dim) / 4);
  auto* row = reinterpret_cast<std::byte*>(stored.data());
  for (std::size_t i = 0; i < ids.shape(0); ++i) {
    float* to = result + i * spec.dim;
    initialise_weights(spec.initializer, seed, ids.data()[i], {to, spec.dim});
    weights.write_nearest(row, to);
    weights.read(row, to);
  }
  return {result, {ids.shape(0), spec.dim}, owner};
}

}  // namespace

void bind_ids(nb::module_& module) {
  module.def(
      "xxh64", [](const nb::bytes& data, std::uint64_t seed) { return xxh64(view(data), seed); },
      nb::arg("data"), nb::arg("seed"));
  module.def("mix64", [](std::uint64_t id) { return mix64(id); }, nb::arg("id"));
  module.def(
      "make_id",
      [](std::uint64_t prefix, std::uint32_t prefix_bits, const nb::bytes& value) {
        return make_id(prefix, prefix_bits, view(value));
      },
      nb::arg("prefix"), nb::arg("prefix_bits"), nb::arg("value"));
  module.def("server_of", &servers_of, nb::arg("ids"), nb::arg("servers"));
  module.def("initial_rows", &initial_rows, nb::arg("table"), nb::arg("seed"), nb::arg("ids"));
}

}  // namespace persia::bindings
