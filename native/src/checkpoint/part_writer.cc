#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>

#include "data_writer.h"
#include "persia/checkpoint.h"
#include "persia/codec.h"
#include "persia/file.h"
#include "persia/part_format.h"
#include "persia/part_history.h"
#include "persia/safetensors.h"
#include "sorted_places.h"

namespace persia {
namespace {

using Place = EmbeddingStore::Place;
using RowMemory = EmbeddingStore::RowMemory;

constexpr std::size_t kRowsAhead = 32;  // whose memory is on its way while others are copied
constexpr std::size_t kCacheLine = 64;

void prefetch(const void* at, std::size_t bytes) {
  const auto* byte = static_cast<const std::byte*>(at);
  for (std::size_t i = 0; i < bytes; i += kCacheLine) __builtin_prefetch(byte + i);
}

// `bytes` of each row, from where `part` says they are.
template <typename Part>
void copy_rows(const EmbeddingStore& store, std::span<const Place> places, std::size_t bytes, Part&& part,
               std::byte* to) {
  std::array<const void*, 2 * kRowsAhead> memory;  // of the rows being copied, and of those after them
  const auto fetch = [&](std::size_t i) {
    if (i >= places.size()) return;
    const void* at = part(store.memory_of(places[i]));
    memory[i % memory.size()] = at;
    prefetch(at, bytes);
  };
  for (std::size_t i = 0; i < kRowsAhead; ++i) fetch(i);
  for (std::size_t i = 0; i < places.size(); ++i) {
    fetch(i + kRowsAhead);
    std::memcpy(to + i * bytes, memory[i % memory.size()], bytes);
  }
}

// All tensors of a part, each with what fills in its data. Those of large elements come first, so that every
// one of them is aligned to its elements, as readers want them that map the file.
class PartWriter {
 public:
  PartWriter(const std::vector<TableSpec>& tables, const Stores& stores, std::uint64_t step, ThreadTeam* team,
             const CutName& cut)
      : tables_(tables), team_(team), cut_(cut), places_(tables.size()), step_(step) {
    for (std::size_t t = 0; t < tables.size(); ++t) add_table(t, tables[t], *stores[t]);
    add("step", "U64", {1},
        [this](std::uint64_t, std::size_t, std::byte* to) { std::memcpy(to, &step_, sizeof step_); });
    std::stable_sort(planned_.begin(), planned_.end(), [](const Planned& a, const Planned& b) {
      return element_bytes(a.tensor.dtype) > element_bytes(b.tensor.dtype);
    });
    std::uint64_t at = 0;
    for (Planned& each : planned_) {
      each.tensor.begin = at;
      each.tensor.end = at += each.source.items * each.source.item_bytes;
    }
  }

  std::uint64_t rows() const {
    std::uint64_t sum = 0;
    for (const auto& places : places_) sum += places.size();
    return sum;
  }

  // The checksum of the data.
  std::uint64_t write(File& file) {
    // The checksum has a fixed width, so the header can be completed after the data.
    const Bytes start = start_of_file(0);
    file.append(start);
    std::vector<DataSource> sources;
    for (const Planned& each : planned_) sources.push_back(each.source);
    const std::uint64_t checksum = write_data(file, start.size(), sources, team_);
    file.write_at(0, start_of_file(checksum));
    return checksum;
  }

 private:
  using Fill = std::function<void(std::uint64_t, std::size_t, std::byte*)>;
  struct Planned {
    std::string name;
    Tensor tensor;
    DataSource source;
  };

  // An item is what has one place in the first dimension.
  void add(std::string name, const char* dtype, std::vector<std::uint64_t> shape, Fill fill) {
    std::uint64_t item_bytes = element_bytes(dtype);
    for (std::size_t i = 1; i < shape.size(); ++i) item_bytes *= shape[i];
    const std::uint64_t items = shape.at(0);
    planned_.push_back({std::move(name), {dtype, std::move(shape)}, {items, item_bytes, std::move(fill)}});
  }

  void add_table(std::size_t t, const TableSpec& table, const EmbeddingStore& store) {
    places_[t] = sorted_places(store, table, cut_.follows.has_value(), team_);
    const std::vector<Place>& places = places_[t];
    const std::uint64_t rows = places.size();
    const std::string& name = table.name;
    const char* weight_dtype = dtype_of(table.weight_type);
    const std::size_t weight_bytes = element_bytes(weight_dtype) * store.dim();
    const std::size_t state_bytes = sizeof(float) * store.state_dim();
    add(name + ".ids", "U64", {rows}, [&places](std::uint64_t first, std::size_t count, std::byte* to) {
      for (std::size_t i = 0; i < count; ++i) std::memcpy(to + 8 * i, &places[first + i].id, 8);
    });
    if (store.tracks_use()) {
      add(name + ".last_used", "U64", {rows}, [&places](std::uint64_t first, std::size_t n, std::byte* to) {
        for (std::size_t i = 0; i < n; ++i) {
          const std::uint64_t last_used = places[first + i].last_used;
          std::memcpy(to + 8 * i, &last_used, 8);
        }
      });
    }
    add(name + ".weights", weight_dtype, {rows, store.dim()},
        [&places, &store, weight_bytes](std::uint64_t first, std::size_t count, std::byte* to) {
          const auto weights = [](const RowMemory& row) { return row.weights; };
          copy_rows(store, std::span(places).subspan(first, count), weight_bytes, weights, to);
        });
    if (state_bytes > 0) {
      add(name + ".state", "F32", {rows, store.state_dim()},
          [&places, &store, state_bytes](std::uint64_t first, std::size_t count, std::byte* to) {
            const auto state = [](const RowMemory& row) { return row.state; };
            copy_rows(store, std::span(places).subspan(first, count), state_bytes, state, to);
          });
    }
    std::vector<SmallTensor> small = history_tensors(name, store);
    if (cut_.follows) small.push_back(removed_tensor(name, store));
    for (SmallTensor& each : small) {
      std::uint64_t item = element_bytes(each.dtype);
      for (std::size_t i = 1; i < each.shape.size(); ++i) item *= each.shape[i];
      add(each.name, each.dtype, each.shape,
          [bytes = std::move(each.data), item](std::uint64_t first, std::size_t count, std::byte* to) {
            std::memcpy(to, bytes.data() + first * item, count * item);
          });
    }
  }

  Bytes start_of_file(std::uint64_t checksum) const {
    SafetensorsHeader header;
    header.metadata = {
        {"format", kPartFormat}, {"optimizers", optimizers_of(tables_)}, {"data_xxh64", hex64(checksum)}};
    if (cut_.number != 0) header.metadata[kCutKey] = hex64(cut_.number);
    if (cut_.follows) header.metadata[kFollowsKey] = hex64(*cut_.follows);
    for (const Planned& each : planned_) header.tensors[each.name] = each.tensor;
    const std::string json = write_safetensors_header(header);
    Writer writer;
    writer.value(static_cast<std::uint64_t>(json.size()));
    writer.array(std::span<const char>(json));
    return writer.take();
  }

  const std::vector<TableSpec>& tables_;
  ThreadTeam* team_;
  CutName cut_;
  std::vector<Planned> planned_;
  std::vector<std::vector<Place>> places_;  // of each table, ids ascending
  std::uint64_t step_;
};

}  // namespace

std::string part_name(std::uint32_t server) {
  return "embedding-" + std::to_string(server) + ".safetensors";
}

std::filesystem::path temporary_part(const std::filesystem::path& directory, std::uint32_t server) {
  std::filesystem::path path = directory / part_name(server);
  path += ".tmp";
  return path;
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
                    const std::vector<TableSpec>& tables, const Stores& stores, std::uint64_t step,
                    ThreadTeam* team, const CutName& cut) {
  const std::filesystem::path path = directory / part_name(server);
  const std::filesystem::path temporary = temporary_part(directory, server);
  // A crashed attempt may have left its temporary file: only this server writes that name.
  if (::unlink(temporary.c_str()) != 0 && errno != ENOENT) fail_io("remove", temporary, errno);
  PartSize size{.step = step, .cut = cut.number};
  File file = File::create(temporary);
  try {
    PartWriter writer(tables, stores, step, team, cut);
    size.checksum = writer.write(file);
    size.rows = writer.rows();
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
