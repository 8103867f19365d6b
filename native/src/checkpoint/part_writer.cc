#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

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
    const auto bytes = std::as_bytes(values);
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
  const float* weights;
  const float* state;
  std::uint64_t last_used;
};

std::vector<Row> sorted_rows(const EmbeddingStore& store) {
  std::vector<Row> rows;
  rows.reserve(store.statistics().rows);
  store.for_each(
      [&](std::uint64_t id, std::span<const float> weights, std::span<const float> state,
          std::uint32_t last_used) { rows.push_back({id, weights.data(), state.data(), last_used}); });
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.id < b.id; });
  return rows;
}

Tensor next_tensor(const char* dtype, std::uint64_t size, std::vector<std::uint64_t> shape,
                   std::uint64_t& at) {
  std::uint64_t bytes = size;
  for (const std::uint64_t extent : shape) bytes *= extent;
  Tensor tensor{dtype, std::move(shape), at, at + bytes};
  at += bytes;
  return tensor;
}

using Histories = std::vector<std::vector<SmallTensor>>;  // of each table

SafetensorsHeader header_of(const std::vector<TableSpec>& tables, const Stores& stores,
                            const Histories& histories, std::uint64_t checksum) {
  SafetensorsHeader header;
  header.metadata = {
      {"format", kPartFormat}, {"optimizers", optimizers_of(tables)}, {"data_xxh64", hex64(checksum)}};
  std::uint64_t at = 0;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const std::uint64_t rows = stores[t]->statistics().rows;
    const std::string& name = tables[t].name;
    header.tensors[name + ".ids"] = next_tensor("U64", 8, {rows}, at);
    header.tensors[name + ".weights"] = next_tensor("F32", 4, {rows, stores[t]->dim()}, at);
    if (stores[t]->state_dim() > 0) {
      header.tensors[name + ".state"] = next_tensor("F32", 4, {rows, stores[t]->state_dim()}, at);
    }
    if (stores[t]->tracks_use()) header.tensors[name + ".last_used"] = next_tensor("U64", 8, {rows}, at);
    for (const SmallTensor& each : histories[t]) {
      header.tensors[each.name] = {each.dtype, each.shape, at, at + each.data.size()};
      at += each.data.size();
    }
  }
  return header;
}

Bytes start_of_file(const SafetensorsHeader& header) {
  const std::string json = write_safetensors_header(header);
  Writer writer;
  writer.value(static_cast<std::uint64_t>(json.size()));
  writer.array(std::span<const char>(json));
  return writer.take();
}

void write_rows(File& file, const std::vector<TableSpec>& tables, const Stores& stores) {
  // The checksum has a fixed width, so the header can be completed after the data.
  Histories histories;
  for (std::size_t t = 0; t < tables.size(); ++t)
    histories.push_back(history_tensors(tables[t].name, *stores[t]));
  file.append(start_of_file(header_of(tables, stores, histories, 0)));
  DataWriter data(file);
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const auto& store = stores[t];
    const std::vector<Row> rows = sorted_rows(*store);
    for (const Row& row : rows) data.write(std::span<const std::uint64_t>(&row.id, 1));
    for (const Row& row : rows) data.write(std::span<const float>(row.weights, store->dim()));
    for (const Row& row : rows) data.write(std::span<const float>(row.state, store->state_dim()));
    if (store->tracks_use()) {
      for (const Row& row : rows) data.write(std::span<const std::uint64_t>(&row.last_used, 1));
    }
    for (const SmallTensor& each : histories[t]) data.write(std::span<const std::byte>(each.data));
  }
  data.flush();
  file.write_at(0, start_of_file(header_of(tables, stores, histories, data.checksum())));
}

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

std::string optimizers_of(const std::vector<TableSpec>& tables) {
  std::string text;
  for (const TableSpec& table : tables) {
    text += (text.empty() ? "" : ",") + table.name + "=" + to_string(table.optimizer.kind);
  }
  return text;
}

PartSize write_part(const std::filesystem::path& directory, std::uint32_t server,
                    const std::vector<TableSpec>& tables, const Stores& stores) {
  const std::filesystem::path path = directory / part_name(server);
  std::filesystem::path temporary = path;
  temporary += ".tmp";
  // A crashed attempt may have left its temporary file: only this server writes that name.
  if (::unlink(temporary.c_str()) != 0 && errno != ENOENT) fail_io("remove", temporary, errno);
  PartSize size;
  for (const auto& store : stores) size.rows += store->statistics().rows;
  File file = File::create(temporary);
  try {
    write_rows(file, tables, stores);
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
