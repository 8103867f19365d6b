#include "persia/worker.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <span>
#include <stdexcept>

#include "bindings.h"
#include "persia/delayed_transport.h"
#include "persia/in_process.h"
#include "persia/mpi_transport.h"
#include "stats_dict.h"
#include "table_dict.h"

namespace nb = nanobind;

namespace persia::bindings {
namespace {

using IdArray = nb::ndarray<const std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OffsetArray = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using GradientArray = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using BufferArray = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using PooledArray = nb::ndarray<nb::numpy, float>;
using MaskArray = nb::ndarray<nb::numpy, bool, nb::ndim<2>>;

constexpr const char* kInProcess = "in-process";

std::unique_ptr<ClientTransport> connect(const std::string& transport, std::uint32_t servers,
                                         std::uint32_t threads, std::uint32_t number, std::uint32_t under_way,
                                         const std::string& segments) {
  if (servers < 1 || servers > 65536) throw std::invalid_argument("servers must be from 1 to 65536");
  if (transport == kInProcess) return InProcessGroup::create(servers, threads, segments)->connect(under_way);
  if (!segments.empty()) throw std::invalid_argument("segments are for the transport in-process alone");
  const std::string named = std::string(kInProcess) + ":";
  if (transport.starts_with(named))
    return InProcessGroup::open(transport, servers, threads)->connect(under_way);
  if (transport != "mpi") {
    throw std::invalid_argument("transport must be mpi, in-process or in-process:<name>, not " + transport);
  }
  if (ensure_mpi()) nb::module_::import_("atexit").attr("register")(nb::cpp_function([] { finalize_mpi(); }));
  return make_mpi_client(servers, number, under_way);
}

void make_worker(Worker* at, const std::string& transport, std::uint32_t servers,
                 const std::vector<nb::dict>& tables, const std::vector<nb::object>& features,
                 std::uint32_t trainer, std::uint32_t trainers, std::uint32_t staleness, bool combine,
                 std::uint64_t seed, double timeout_s, std::uint32_t server_threads, std::uint32_t number,
                 double delay_s, const std::string& wire_values, const std::string& segments) {
  if (!(delay_s >= 0) || delay_s > 1e8) throw std::invalid_argument("delay_s must be from 0 to 1e8");
  WorkerOptions options;
  for (const nb::dict& table : tables) options.tables.push_back(table_from_dict(table));
  for (const nb::object& feature : features)
    options.features.push_back(feature_from_object(feature, options.tables));
  options.trainer = trainer;
  options.trainers = trainers;
  options.staleness = staleness;
  options.combine = combine;
  options.seed = seed;
  options.wire_values = weight_type_named(wire_values, "wire_values");
  options.timeout = std::chrono::duration<double>(timeout_s);
  auto carrier = delay_replies(connect(transport, servers, server_threads, number, staleness, segments),
                               std::chrono::duration<double>(delay_s));
  new (at) Worker(std::move(options), std::move(carrier));
}

// [rows, dim], of a sequence [rows, length, dim].
std::vector<std::size_t> shape_of(const LookedUp& lookup, std::size_t feature) {
  std::vector<std::size_t> shape{lookup.plan.rows};
  const std::uint32_t length = lookup.features[feature].length;
  if (length > 0) shape.push_back(length);
  shape.push_back(lookup.dims[feature]);
  return shape;
}

PendingLookup begin_lookup(Worker& worker, std::uint64_t batch, const std::vector<IdArray>& ids,
                           const std::vector<OffsetArray>& offsets, bool training,
                           const std::optional<std::vector<BufferArray>>& buffers) {
  if (ids.size() != offsets.size())
    throw std::invalid_argument("ids and offsets must have one array per feature each");
  std::vector<FeatureIds> features;
  for (std::size_t f = 0; f < ids.size(); ++f) {
    features.push_back({{ids[f].data(), ids[f].shape(0)}, {offsets[f].data(), offsets[f].shape(0)}});
  }
  std::vector<Buffer> given;
  if (buffers) {
    // An empty list is not the same as none: it has too few.
    if (buffers->size() != worker.options().tables.size())
      throw std::invalid_argument("there must be one buffer per table, or none");
    for (const BufferArray& array : *buffers) {
      auto* keep = new BufferArray(array);
      const auto release = [keep](float*) {
        const nb::gil_scoped_acquire gil;
        delete keep;
      };
      given.push_back({std::shared_ptr<float[]>(array.data(), release), array.size()});
    }
  }
  const nb::gil_scoped_release release;
  return worker.begin_lookup(batch, features, training, std::move(given));
}

std::shared_ptr<LookedUp> finish_lookup(Worker& worker, PendingLookup& pending) {
  const nb::gil_scoped_release release;
  return worker.finish(pending);
}

std::shared_ptr<LookedUp> lookup(Worker& worker, std::uint64_t batch, const std::vector<IdArray>& ids,
                                 const std::vector<OffsetArray>& offsets, bool training,
                                 const std::optional<std::vector<BufferArray>>& buffers) {
  PendingLookup pending = begin_lookup(worker, batch, ids, offsets, training, buffers);
  return finish_lookup(worker, pending);
}

PendingReturn begin_update(Worker& worker, LookedUp& lookup, const std::vector<GradientArray>& gradients,
                           double scale, const std::optional<std::vector<double>>& learning_rate_factors) {
  if (gradients.size() != lookup.dims.size())
    throw std::invalid_argument("there must be one gradient per feature");
  std::vector<const float*> pointers;
  for (std::size_t f = 0; f < gradients.size(); ++f) {
    const GradientArray& gradient = gradients[f];
    const std::vector<std::size_t> shape = shape_of(lookup, f);
    const std::span<const std::int64_t> given(gradient.shape_ptr(), gradient.ndim());
    if (!std::equal(shape.begin(), shape.end(), given.begin(), given.end())) {
      std::string text;
      for (const std::size_t each : shape) text += (text.empty() ? "" : ", ") + std::to_string(each);
      throw std::invalid_argument("the gradient of feature " + std::to_string(f) + " must have shape [" +
                                  text + "]");
    }
    pointers.push_back(gradient.data());
  }
  // An empty list is not the same as none: it has too few.
  if (learning_rate_factors && learning_rate_factors->size() != worker.options().tables.size())
    throw std::invalid_argument("there must be one learning rate factor per table");
  const nb::gil_scoped_release release;
  return worker.begin_update(
      lookup, pointers, static_cast<float>(scale),
      learning_rate_factors ? std::span<const double>(*learning_rate_factors) : std::span<const double>());
}

void finish_return(Worker& worker, PendingReturn& pending) {
  const nb::gil_scoped_release release;
  worker.finish(pending);
}

void update(Worker& worker, LookedUp& lookup, const std::vector<GradientArray>& gradients, double scale,
            const std::optional<std::vector<double>>& learning_rate_factors) {
  PendingReturn pending = begin_update(worker, lookup, gradients, scale, learning_rate_factors);
  finish_return(worker, pending);
}

// An array over a part of a buffer, which lives on with it.
PooledArray view(const Buffer& buffer, float* data, const std::vector<std::size_t>& shape) {
  auto* keep = new std::shared_ptr<float[]>(buffer.data);
  const nb::capsule owner(keep, [](void* p) noexcept { delete static_cast<std::shared_ptr<float[]>*>(p); });
  return {data, shape.size(), shape.data(), owner};
}

nb::list pooled(const LookedUp& lookup) {
  nb::list arrays;
  for (std::size_t f = 0; f < lookup.features.size(); ++f) {
    const Buffer& buffer = lookup.buffers[lookup.features[f].table];
    arrays.append(view(buffer, lookup.pooled(f).data(), shape_of(lookup, f)));
  }
  return arrays;
}

nb::list buffers(const LookedUp& lookup) {
  nb::list arrays;
  for (const Buffer& buffer : lookup.buffers) arrays.append(view(buffer, buffer.data.get(), {buffer.floats}));
  return arrays;
}

nb::list layout(const LookedUp& lookup) {
  nb::list entries;
  for (std::size_t f = 0; f < lookup.features.size(); ++f) {
    const nb::tuple shape(nb::cast(shape_of(lookup, f)));
    entries.append(nb::make_tuple(lookup.features[f].table, lookup.starts[f], shape));
  }
  return entries;
}

nb::list masks(const LookedUp& lookup) {
  nb::list arrays;
  for (std::size_t f = 0; f < lookup.features.size(); ++f) {
    const FeatureSpec& spec = lookup.features[f];
    if (spec.length == 0) {
      arrays.append(nb::none());
      continue;
    }
    const std::size_t places = lookup.plan.rows * spec.length;
    auto* mask = new bool[places];
    const nb::capsule owner(mask, [](void* p) noexcept { delete[] static_cast<bool*>(p); });
    fill_mask(lookup.plan, f, spec, {mask, places});
    arrays.append(MaskArray(mask, {lookup.plan.rows, spec.length}, owner));
  }
  return arrays;
}

template <typename Call>
auto without_gil(Call call) {
  const nb::gil_scoped_release release;
  return call();
}

nb::list parts_of(const std::vector<SaveReply>& replies) {
  nb::list result;
  for (std::size_t s = 0; s < replies.size(); ++s) {
    nb::dict entry;
    entry["server"] = s;
    entry["name"] = replies[s].name;
    entry["rows"] = replies[s].rows;
    entry["bytes"] = replies[s].bytes;
    result.append(entry);
  }
  return result;
}

nb::list save(Worker& worker, const std::string& directory) {
  return parts_of(without_gil([&] { return worker.save(directory); }));
}

void begin_save(Worker& worker, const std::string& directory, const std::string& kind, std::uint64_t cut) {
  SaveKind wanted = SaveKind::kFull;
  if (kind == "base") {
    wanted = SaveKind::kBase;
  } else if (kind == "delta") {
    wanted = SaveKind::kDelta;
  } else if (kind != "full") {
    throw std::invalid_argument("kind must be full, base or delta, not " + kind);
  }
  without_gil([&] { worker.begin_save(directory, wanted, cut); });
}

nb::object finish_save(Worker& worker) {
  const auto replies = without_gil([&] { return worker.finish_save(); });
  return replies ? nb::object(parts_of(*replies)) : nb::object(nb::none());
}

nb::list load(Worker& worker, const std::vector<std::string>& paths) {
  const auto replies = without_gil([&] { return worker.load(paths); });
  nb::list result;
  for (std::size_t s = 0; s < replies.size(); ++s) {
    nb::dict entry;
    entry["server"] = s;
    entry["rows"] = replies[s].rows;
    entry["bytes"] = replies[s].bytes;
    result.append(entry);
  }
  return result;
}

nb::list stats(Worker& worker) {
  const auto replies = without_gil([&] { return worker.stats(); });
  nb::list result;
  for (const StatsReply& reply : replies) result.append(stats_to_dict(reply));
  return result;
}

}  // namespace

void bind_worker(nb::module_& module) {
  nb::exception<TransportError>(module, "TransportError", PyExc_RuntimeError);
  nb::exception<ServerError>(module, "ServerError", PyExc_RuntimeError);

  nb::class_<LookedUp>(module, "Lookup")
      .def_prop_ro("pooled", &pooled)
      .def_prop_ro("masks", &masks)
      .def_prop_ro("buffers", &buffers)
      .def_prop_ro("layout", &layout)
      .def_ro("batch", &LookedUp::batch)
      .def_ro("unique_ids", &LookedUp::unique_ids)
      .def_ro("missing_ids", &LookedUp::missing_ids)
      .def_ro("truncated_ids", &LookedUp::truncated_ids);

  nb::class_<PendingLookup>(module, "PendingLookup");
  nb::class_<PendingReturn>(module, "PendingReturn");

  const auto release = nb::call_guard<nb::gil_scoped_release>();
  nb::class_<Worker>(module, "EmbeddingWorker")
      .def("__init__", &make_worker, nb::kw_only(), nb::arg("transport"), nb::arg("servers"),
           nb::arg("tables"), nb::arg("features"), nb::arg("trainer"), nb::arg("trainers"),
           nb::arg("staleness"), nb::arg("combine"), nb::arg("seed"), nb::arg("timeout_s"),
           nb::arg("server_threads") = 1, nb::arg("number") = 0, nb::arg("delay_s") = 0.0,
           nb::arg("wire_values") = "float32", nb::arg("segments") = "")
      .def("configure", &Worker::configure, release)
      .def("lookup", &lookup, nb::arg("batch"), nb::arg("ids"), nb::arg("offsets"), nb::arg("training"),
           nb::arg("buffers").noconvert() = nb::none())
      .def("begin_lookup", &begin_lookup, nb::arg("batch"), nb::arg("ids"), nb::arg("offsets"),
           nb::arg("training"), nb::arg("buffers").noconvert() = nb::none())
      .def("finish_lookup", &finish_lookup, nb::arg("pending"))
      .def("buffer_floats", &Worker::buffer_floats, nb::arg("rows"))
      .def("update", &update, nb::arg("lookup"), nb::arg("gradients"), nb::arg("scale"),
           nb::arg("learning_rate_factors") = nb::none())
      .def("discard", &Worker::discard, nb::arg("lookup"), release)
      .def("begin_update", &begin_update, nb::arg("lookup"), nb::arg("gradients"), nb::arg("scale"),
           nb::arg("learning_rate_factors") = nb::none())
      .def("begin_discard", &Worker::begin_discard, nb::arg("lookup"), release)
      .def("finish_return", &finish_return, nb::arg("pending"))
      .def("save", &save, nb::arg("directory"))
      .def("begin_save", &begin_save, nb::arg("directory"), nb::arg("kind") = "full", nb::arg("cut") = 0)
      .def("finish_save", &finish_save)
      .def("give_up_save", &Worker::give_up_save, release)
      .def("load", &load, nb::arg("paths"))
      .def("advance_day", &Worker::advance_day, nb::arg("day"), release)
      .def("stats", &stats)
      .def("shutdown", &Worker::shutdown, release);
}

}  // namespace persia::bindings
