#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>

#include "persia/checkpoint.h"
#include "persia/codec.h"
#include "persia/file.h"
#include "persia/ids.h"
#include "persia/part_format.h"
#include "persia/part_history.h"
#include "persia/safetensors.h"

namespace persia {
namespace {

constexpr std::size_t kBuffer = 1 << 20;

// Buffers small rows into large writes, and hashes what it writes.
class DataWriter {
 public:
  explicit DataWriter(File& file) : file_(file) { buffer_.reserve(kBuffer); }
  template <typename T>
  void write(std::span<const T> values) {
    const std::span<const std::byte> bytes = std::as_bytes(values);
    if (buffer_.size() + bytes.size() > kBuffer) flush();
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  void flush() {
    hash_.update(buffer_);
    file_.append(buffer_);
    buffer_.clear();
  }
  std::uint64_t checksum() const { return hash_.digest(); }

 private:
  File& file_;
  Bytes buffer_;
  Xxh64 hash_{0};
};

struct Row {
  std::uint64_t id;
  const std::byte* weights;
  const float* state;
  std::uint64_t last_used;
};

std::vector<Row> sorted_rows(const EmbeddingStore& store) {
  std::vector<Row> rows;
  rows.reserve(store.statistics().rows);
  store.for_each(
      [&](std::uint64_t id, std::span<const std::byte> weights, std::span<const float> state,
          std::uint32_t last_used) { rows.push_back({id, weights.data(), state.data(), last_used}); });
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.id < b.id; });
  return rows;
}

// All tensors of a part, each with what writes its data. Those of large elements come first, so that every
// one of them is aligned to its elements, as readers want them that map the file.
class PartWriter {
 public:
  PartWriter(const std::vector<TableSpec>& tables, const Stores& stores, std::uint64_t step)
      : tables_(tables), values_(tables.size()) {
    for (std::size_t t = 0; t < tables.size(); ++t) add_table(t, tables[t], *stores[t]);
    add_small({"step", "U64", {1}, {}},
              [step](DataWriter& data) { data.write(std::span<const std::uint64_t>(&step, 1)); });
    std::stable_sort(planned_.begin(), planned_.end(), [](const Planned& a, const Planned& b) {
      return element_bytes(a.tensor.dtype) > element_bytes(b.tensor.dtype);
    });
    std::uint64_t at = 0;
    for (Planned& each : planned_) {
      std::uint64_t bytes = element_bytes(each.tensor.dtype);
      for (const std::uint64_t extent : each.tensor.shape) bytes *= extent;
      each.tensor.begin = at;
      each.tensor.end = at += bytes;
    }
  }

  void write(File& file) {
    // The checksum has a fixed width, so the header can be completed after the data.
    file.append(start_of_file(0));
    DataWriter data(file);
    for (const Planned& each : planned_) each.write(data);
    data.flush();
    file.write_at(0, start_of_file(data.checksum()));
  }

 private:
  struct Planned {
    std::string name;
    Tensor tensor;
    std::function<void(DataWriter&)> write;
  };
  struct Values {
    const std::byte* weights;
    const float* state;
  };

  void add(std::string name, const char* dtype, std::vector<std::uint64_t> shape,
           std::function<void(DataWriter&)> write) {
    planned_.push_back({std::move(name), {dtype, std::move(shape)}, std::move(write)});
  }

  void add_small(const SmallTensor& tensor, std::function<void(DataWriter&)> write) {
    add(tensor.name, tensor.dtype, tensor.shape, std::move(write));
  }

  void add_table(std::size_t t, const TableSpec& table, const EmbeddingStore& store) {
    const std::string& name = table.name;
    const char* weight_dtype = dtype_of(table.weight_type);
    const std::uint64_t rows = store.statistics().rows;
    const std::uint64_t weight_bytes = element_bytes(weight_dtype) * store.dim();
    const std::uint32_t state_dim = store.state_dim();
    add(name + ".ids", "U64", {rows}, [this, t, &store](DataWriter& data) {
      rows_ = sorted_rows(store);
      values_[t].reserve(rows_.size());
      for (const Row& row : rows_) {
        values_[t].push_back({row.weights, row.state});
        data.write(std::span<const std::uint64_t>(&row.id, 1));
      }
    });
    if (store.tracks_use()) {
      // Right behind the ids: rows_ are still those of this table.
      add(name + ".last_used", "U64", {rows}, [this](DataWriter& data) {
        for (const Row& row : rows_) data.write(std::span<const std::uint64_t>(&row.last_used, 1));
      });
    }
    add(name + ".weights", weight_dtype, {rows, store.dim()}, [this, t, weight_bytes](DataWriter& data) {
      for (const Values& row : values_[t]) data.write(std::span(row.weights, weight_bytes));
    });
    if (state_dim > 0) {
      add(name + ".state", "F32", {rows, state_dim}, [this, t, state_dim](DataWriter& data) {
        for (const Values& row : values_[t]) data.write(std::span(row.state, state_dim));
      });
    }
    for (SmallTensor& each : history_tensors(name, store)) {
      add_small(each, [bytes = std::move(each.data)](DataWriter& data) {
        data.write(std::span<const std::byte>(bytes));
      });
    }
  }

  Bytes start_of_file(std::uint64_t checksum) const {
    SafetensorsHeader header;
    header.metadata = {
        {"format", kPartFormat}, {"optimizers", optimizers_of(tables_)}, {"data_xxh64", hex64(checksum)}};
    for (const Planned& each : planned_) header.tensors[each.name] = each.tensor;
    const std::string json = write_safetensors_header(header);
    Writer writer;
    writer.value(static_cast<std::uint64_t>(json.size()));
    writer.array(std::span<const char>(json));
    return writer.take();
  }

  const std::vector<TableSpec>& tables_;
  std::vector<Planned> planned_;
  std::vector<Row> rows_;                    // of the table whose ids were written last
  std::vector<std::vector<Values>> values_;  // of each table, ids ascending
};

}  // namespace

std::string part_name(std::uint32_t server) {
  return "embedding-" + std::to_string(server) + ".safetensors";
}

std::string hex64(std::uint64_t value) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text(16, '0');
  for (std::size_t i = 16; i-- > 0; value >>= 4) text[i] = kDigits[value & 15];
  return text;
}

const char* dtype_of(WeightType type) {
  switch (type) {
    case WeightType::kFloat32: return "F32";
    case WeightType::kBfloat16: return "BF16";
    case WeightType::kFloat16: return "F16";
  }
  return nullptr;
}

std::string optimizers_of(const std::vector<TableSpec>& tables) {
  std::string text;
  for (const TableSpec& table : tables) {
    text += (text.empty() ? "" : ",") + table.name + "=" + to_string(table.optimizer.kind);
  }
  return text;
}

PartSize write_part(const std::filesystem::path& directory, std::uint32_t server,
                    const std::vector<TableSpec>& tables, const Stores& stores, std::uint64_t step) {
  const std::filesystem::path path = directory / part_name(server);
  std::filesystem::path temporary = path;
  temporary += ".tmp";
  // A crashed attempt may have left its temporary file: only this server writes that name.
  if (::unlink(temporary.c_str()) != 0 && errno != ENOENT) fail_io("remove", temporary, errno);
  PartSize size{.step = step};
  for (const auto& store : stores) size.rows += store->statistics().rows;
  File file = File::create(temporary);
  try {
    PartWriter(tables, stores, step).write(file);
    size.bytes = file.size();
    file.sync_and_close();
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_io("rename", temporary, errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  File::sync_directory(directory);
  return size;
}

}  // namespace persia
