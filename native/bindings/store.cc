// One table in this process, without a server: for tests and benchmarks.
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <vector>

#include "bindings.h"
#include "persia/part_format.h"
#include "persia/store.h"
#include "persia/table_set.h"
#include "persia/thread_team.h"
#include "persia/weight_type.h"
#include "table_dict.h"

namespace nb = nanobind;

namespace persia::bindings {
namespace {

using IdArray = nb::ndarray<const std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ClockArray = nb::ndarray<const std::uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ConstRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<nb::numpy, float, nb::ndim<2>, nb::c_contig>;

template <typename T>
nb::ndarray<nb::numpy, T> make_array(std::size_t rows, std::optional<std::size_t> columns, T*& data) {
  data = new T[rows * columns.value_or(1)];
  const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  if (columns) return nb::ndarray<nb::numpy, T>(data, {rows, *columns}, owner);
  return nb::ndarray<nb::numpy, T>(data, {rows}, owner);
}

class Table {
 public:
  Table(const nb::dict& table, std::uint64_t seed, std::uint32_t servers, std::uint32_t threads)
      : spec_(table_from_dict(table)), team_(threads) {
    if (servers < 1) throw std::invalid_argument("servers must be 1 or more");
    check_tables({spec_});
    tables_.emplace(std::vector<TableSpec>{spec_}, seed, servers, team_);
  }

  Rows lookup(const IdArray& ids, bool training, std::optional<Rows> out) {
    const std::size_t n = ids.shape(0);
    if (!out) {
      auto* fresh = new float[n * spec_.dim];
      const nb::capsule owner(fresh, [](void* p) noexcept { delete[] static_cast<float*>(p); });
      out = Rows(fresh, {n, spec_.dim}, owner);
    }
    check_shape(out->shape(0), out->shape(1), n, "out");
    {
      const nb::gil_scoped_release release;
      const std::lock_guard lock(mutex_);
      const std::span<const std::uint64_t> wanted(ids.data(), n);
      check_ids(wanted);
      if (training) ++changes_;
      const TableSet::Lookup all{0, wanted, {out->data(), n * spec_.dim}};
      tables_->lookup({&all, 1}, training);
    }
    return *out;
  }

  void update(const IdArray& ids, const ConstRows& gradients, double learning_rate_factor,
              std::uint64_t step) {
    const std::size_t n = ids.shape(0);
    if (!std::isfinite(learning_rate_factor) || learning_rate_factor < 0)
      throw std::invalid_argument("learning_rate_factor must be a number >= 0");
    check_shape(gradients.shape(0), gradients.shape(1), n, "gradients");
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    const std::span<const std::uint64_t> wanted(ids.data(), n);
    check_ids(wanted);
    ++changes_;
    const TableSet::Update all{0, wanted, {gradients.data(), n * spec_.dim}};
    const StepOptions options{learning_rate_factor, step};
    tables_->update({&all, 1}, {&options, 1});
  }

  void advance_day(std::uint32_t day) {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    ++changes_;
    tables_->advance_day(day);
  }

  // How many of the rows were not there yet.
  std::uint64_t insert(const IdArray& ids, const ConstRows& weights, const ConstRows& state,
                       std::optional<ClockArray> last_used) {
    const std::size_t n = ids.shape(0);
    const std::size_t state_dim = store().state_dim();
    check_shape(weights.shape(0), weights.shape(1), n, "weights");
    if (state.shape(0) != n || state.shape(1) != state_dim)
      throw std::invalid_argument("state must have the shape [ids, " + std::to_string(state_dim) + "]");
    if (last_used && last_used->shape(0) != n)
      throw std::invalid_argument("last_used must have one number per id");
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    check_ids({ids.data(), n});
    ++changes_;
    std::uint64_t inserted = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t clock = last_used ? last_used->data()[i] : 0;
      inserted += tables_->stores()[0]->insert(ids.data()[i], {weights.data() + i * spec_.dim, spec_.dim},
                                               {state.data() + i * state_dim, state_dim}, clock)
                      ? 1
                      : 0;
    }
    return inserted;
  }

  class Export {
   public:
    Export(Table& table, std::size_t rows) : table_(table), changes_(table.changes_), rows_(rows) {}
    // ids, weights, state, last_used of the next rows.
    nb::tuple next() {
      std::size_t n = 0;
      {
        const nb::gil_scoped_release release;
        const std::lock_guard lock(table_.mutex_);
        if (changes_ != table_.changes_) throw std::runtime_error("the store has changed since export()");
        n = table_.store().read(cursor_, rows_);
      }
      if (n == 0) throw nb::stop_iteration();
      const std::size_t state_dim = table_.store().state_dim();
      const RowWeights decoder(table_.spec_.weight_type, table_.spec_.dim);
      std::uint64_t* ids = nullptr;
      float* weights = nullptr;
      float* state = nullptr;
      std::uint32_t* last_used = nullptr;
      auto result = nb::make_tuple(make_array(n, std::nullopt, ids), make_array(n, table_.spec_.dim, weights),
                                   make_array(n, state_dim, state), make_array(n, std::nullopt, last_used));
      for (std::size_t i = 0; i < n; ++i) {
        ids[i] = rows_[i].id;
        decoder.read(rows_[i].weights.data(), weights + i * table_.spec_.dim);
        std::copy(rows_[i].state.begin(), rows_[i].state.end(), state + i * state_dim);
        last_used[i] = rows_[i].last_used;
      }
      return result;
    }

   private:
    Table& table_;
    std::uint64_t changes_;
    EmbeddingStore::Cursor cursor_;
    std::vector<EmbeddingStore::Row> rows_;
  };

  Export begin_export(std::size_t rows) {
    if (rows < 1) throw std::invalid_argument("rows must be 1 or more");
    return {*this, rows};
  }

  nb::dict stats() {
    const StoreStatistics statistics = locked_statistics();
    nb::dict result;
    result["rows"] = statistics.rows;
    result["bytes"] = statistics.bytes;
    result["lookups"] = statistics.lookups;
    result["hits"] = statistics.hits;
    result["misses"] = statistics.misses;
    result["created"] = statistics.created;
    result["not_admitted"] = statistics.not_admitted;
    result["evicted"] = statistics.evicted;
    result["expired"] = statistics.expired;
    result["updates"] = statistics.updates;
    result["updates_missing"] = statistics.updates_missing;
    result["saturated"] = statistics.saturated;
    return result;
  }

  nb::dict memory() {
    const StoreStatistics statistics = locked_statistics();
    nb::dict result;
    result["bytes"] = statistics.bytes;
    result["payload_bytes"] = statistics.rows * row_bytes(spec_);
    result["row_bytes"] = row_bytes(spec_);
    result["capacity_rows"] =
        spec_.capacity_bytes == 0 ? nb::object(nb::none()) : nb::object(nb::int_(capacity_rows(spec_)));
    return result;
  }

 private:
  const EmbeddingStore& store() const { return *tables_->stores()[0]; }
  StoreStatistics locked_statistics() {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    return store().statistics();
  }
  void check_shape(std::size_t rows, std::size_t dim, std::size_t n, const char* what) const {
    if (rows != n || dim != spec_.dim) {
      throw std::invalid_argument(std::string(what) + " must have the shape [ids, dim], dim being " +
                                  std::to_string(spec_.dim));
    }
  }
  void check_ids(std::span<const std::uint64_t> ids) const {
    bool all = true;
    for (const std::uint64_t id : ids) all &= spec_.owns(id);
    if (!all) throw std::invalid_argument("an id has not the prefix of table " + spec_.name);
  }

  TableSpec spec_;
  std::mutex mutex_;
  ThreadTeam team_;
  std::optional<TableSet> tables_;
  std::uint64_t changes_ = 0;  // calls that may have changed rows
};

}  // namespace

void bind_store(nb::module_& module) {
  nb::class_<Table::Export>(module, "StoreExport", "The rows of a Store, some at a time.")
      .def("__iter__", [](nb::handle self) { return self; })
      .def("__next__", &Table::Export::next);
  nb::class_<Table>(module, "Store", "One embedding table in this process, without a server.")
      .def(nb::init<const nb::dict&, std::uint64_t, std::uint32_t, std::uint32_t>(), nb::arg("table"),
           nb::arg("seed"), nb::arg("servers") = 1, nb::arg("threads") = 1)
      .def("lookup", &Table::lookup, nb::arg("ids"), nb::arg("training"), nb::arg("out") = nb::none())
      .def("update", &Table::update, nb::arg("ids"), nb::arg("gradients"),
           nb::arg("learning_rate_factor") = 1.0, nb::arg("step") = 0)
      .def("advance_day", &Table::advance_day, nb::arg("day"))
      .def("insert", &Table::insert, nb::arg("ids"), nb::arg("weights"), nb::arg("state"),
           nb::arg("last_used") = nb::none())
      .def("export", &Table::begin_export, nb::arg("rows") = 65536, nb::keep_alive<0, 1>())
      .def("stats", &Table::stats)
      .def("memory", &Table::memory);
}

}  // namespace persia::bindings
