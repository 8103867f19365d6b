#include <algorithm>
#include <optional>

#include "persia/checkpoint.h"
#include "persia/codec.h"
#include "persia/file.h"
#include "persia/gradient_sum.h"
#include "persia/ids.h"
#include "persia/part_format.h"
#include "persia/part_history.h"
#include "persia/safetensors.h"
#include "persia/weight_type.h"

namespace persia {
namespace {

constexpr std::size_t kBlockBytes = 1 << 20;

class PartReader {
 public:
  PartReader(const std::string& path, const std::vector<TableSpec>& tables, const Stores& stores)
      : path_(path), file_(File::open(path)) {
    const std::uint64_t size = file_.size();
    if (size < 8) corrupt("the file ends too early");
    std::uint64_t header_size = 0;
    file_.read_at(0, std::as_writable_bytes(std::span(&header_size, 1)));
    if (header_size > kMaxSafetensorsHeader) corrupt("the header has more than 16 MiB");
    if (header_size > size - 8) corrupt("the header reaches beyond the end of the file");
    std::string json(header_size, '\0');
    file_.read_at(8, std::as_writable_bytes(std::span(json)));
    data_start_ = 8 + header_size;
    data_size_ = size - data_start_;
    try {
      header_ = parse_safetensors_header(json, data_size_);
    } catch (const std::invalid_argument& error) {
      corrupt(error.what());
    }
    check_tables(tables, stores);
  }

  std::uint64_t bytes() const { return data_start_ + data_size_; }

  std::uint64_t step() const { return whole<std::uint64_t>("step").at(0); }

  void add_sightings(const TableSpec& table, SightingsReader& reader) const {
    try {
      reader.add(whole<std::uint64_t>(table.name + ".seen_ids"),
                 whole<std::uint8_t>(table.name + ".sightings"));
    } catch (const std::invalid_argument& error) {
      corrupt("table " + table.name + ": " + error.what());
    }
  }

  TableClock clock(const TableSpec& table) const {
    try {
      return clock_from(whole<std::uint64_t>(table.name + ".clock"),
                        whole<std::uint64_t>(table.name + ".days"));
    } catch (const std::invalid_argument& error) {
      corrupt("table " + table.name + ": " + error.what());
    }
  }

  // Every id is checked, also of rows that belong to other servers. `number` is this part's in `clock`.
  std::uint64_t read(const TableSpec& table, std::uint32_t server, std::uint32_t servers,
                     const MergedClock& clock, std::size_t number, EmbeddingStore& store) const {
    const Tensor& ids_tensor = header_.tensors.at(table.name + ".ids");
    const Tensor& weights_tensor = header_.tensors.at(table.name + ".weights");
    const std::uint64_t state_begin =
        store.state_dim() > 0 ? header_.tensors.at(table.name + ".state").begin : weights_tensor.end;
    const auto use = header_.tensors.find(table.name + ".last_used");
    const bool has_use = use != header_.tensors.end();
    const std::uint64_t rows = ids_tensor.shape[0];
    const std::uint64_t row_bytes = 8 + 4 * std::uint64_t{store.dim()} + 4 * std::uint64_t{store.state_dim()};
    const std::uint64_t block_rows = std::max<std::uint64_t>(1, kBlockBytes / row_bytes);
    std::uint64_t kept = 0;
    std::uint64_t previous = 0;
    for (std::uint64_t first = 0; first < rows; first += block_rows) {
      const auto count = static_cast<std::size_t>(std::min(block_rows, rows - first));
      const auto ids = block<std::uint64_t>(ids_tensor.begin, first, count, 1);
      const std::vector<float> weights = wide_block(table, weights_tensor.begin, first, count);
      const auto state = block<float>(state_begin, first, count, store.state_dim());
      const auto last_used = has_use ? block<std::uint64_t>(use->second.begin, first, count, 1)
                                     : std::vector<std::uint64_t>(count, 0);
      if (!all_finite(weights) || !all_finite(state))
        corrupt("table " + table.name + " holds a value that is not finite");
      for (std::size_t i = 0; i < count; ++i) {
        if (!table.owns(ids[i]))
          corrupt("id " + hex64(ids[i]) + " has not the prefix of table " + table.name);
        // So every server finds an id that is there twice, not only the one that owns it.
        if (first + i > 0 && ids[i] <= previous) corrupt("the ids of table " + table.name + " do not ascend");
        previous = ids[i];
        if (last_used[i] > 0xFFFFFFFF) corrupt("a last_used of table " + table.name + " is above 2^32 - 1");
        if (server_of(ids[i], servers) != server) continue;
        const auto row_weights = std::span(weights).subspan(i * store.dim(), store.dim());
        const auto row_state = std::span(state).subspan(i * store.state_dim(), store.state_dim());
        const std::uint32_t used = clock.convert(number, static_cast<std::uint32_t>(last_used[i]));
        if (!store.insert(ids[i], row_weights, row_state, used)) {
          corrupt("id " + hex64(ids[i]) + " of table " + table.name + " was in an earlier part already");
        }
        ++kept;
      }
    }
    return kept;
  }

  void check_data() const {
    Xxh64 hash(0);
    Bytes buffer(kBlockBytes);
    for (std::uint64_t at = 0; at < data_size_; at += buffer.size()) {
      const auto piece = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), data_size_ - at));
      file_.read_at(data_start_ + at, piece);
      hash.update(piece);
    }
    if (hex64(hash.digest()) != metadata("data_xxh64")) corrupt("the data does not match its checksum");
  }

 private:
  [[noreturn]] void corrupt(const std::string& what) const {
    throw RequestError(ErrorCode::kCorruptPart, path_ + ": " + what);
  }
  [[noreturn]] void mismatch(const std::string& what) const {
    throw RequestError(ErrorCode::kPartMismatch, path_ + ": " + what);
  }

  std::string metadata(const std::string& key) const {
    const auto found = header_.metadata.find(key);
    if (found == header_.metadata.end()) corrupt("is no embedding part: metadata " + key + " is missing");
    return found->second;
  }

  void check_tables(const std::vector<TableSpec>& tables, const Stores& stores) const {
    if (metadata("format") != kPartFormat)
      corrupt("is no embedding part: format is not " + std::string(kPartFormat));
    if (header_.metadata.size() != 3) corrupt("there is unknown metadata");
    const std::string expected = optimizers_of(tables);
    if (metadata("optimizers") != expected) {
      mismatch("was saved with tables and optimizers " + metadata("optimizers") + ", configured are " +
               expected);
    }
    if (find("step", "U64").shape != std::vector<std::uint64_t>{1}) corrupt("tensor step has a wrong shape");
    std::size_t expected_tensors = 1;
    for (std::size_t t = 0; t < tables.size(); ++t) {
      const auto ids = find(tables[t].name + ".ids", "U64");
      if (ids.shape.size() != 1) corrupt("tensor " + tables[t].name + ".ids has not one dimension");
      check_weight_type(tables[t]);
      check_shape(tables[t].name + ".weights", dtype_of(tables[t].weight_type), ids.shape[0],
                  stores[t]->dim());
      if (stores[t]->state_dim() > 0)
        check_shape(tables[t].name + ".state", "F32", ids.shape[0], stores[t]->state_dim());
      expected_tensors += stores[t]->state_dim() > 0 ? 3 : 2;
      // A table may have been given a capacity or an age, or have lost it, since: then all rows are equally
      // old.
      expected_tensors += check_optional(tables[t].name + ".last_used", ids.shape[0], 0);
      expected_tensors += check_optional(tables[t].name + ".clock", 1, 0);
      expected_tensors += check_optional(tables[t].name + ".days", std::nullopt, 2);
      expected_tensors += check_optional(tables[t].name + ".seen_ids", std::nullopt, 0);
      expected_tensors += check_optional(tables[t].name + ".sightings", std::nullopt, 0, "U8");
    }
    if (header_.tensors.size() != expected_tensors)
      mismatch("holds tensors of tables that are not configured");
  }

  Tensor find(const std::string& name, const char* dtype) const {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end()) mismatch("has no tensor " + name);
    if (found->second.dtype != dtype) corrupt("tensor " + name + " has dtype " + found->second.dtype);
    return found->second;
  }

  // How many there are of it. `rows` may be any number if it is nothing; without `width`, one dimension.
  std::size_t check_optional(const std::string& name, std::optional<std::uint64_t> rows, std::uint64_t width,
                             const char* dtype = "U64") const {
    if (!header_.tensors.contains(name)) return 0;
    const Tensor tensor = find(name, dtype);
    const bool dimensions = tensor.shape.size() == (width > 0 ? 2 : 1);
    if (!dimensions || (rows && tensor.shape[0] != *rows) || (width > 0 && tensor.shape[1] != width))
      corrupt("tensor " + name + " has a wrong shape");
    return 1;
  }

  void check_weight_type(const TableSpec& table) const {
    const auto found = header_.tensors.find(table.name + ".weights");
    if (found == header_.tensors.end()) return;  // check_shape() says so
    for (const WeightType type : {WeightType::kFloat32, WeightType::kBfloat16, WeightType::kFloat16}) {
      if (type == table.weight_type || found->second.dtype != dtype_of(type)) continue;
      mismatch("table " + table.name + " was saved with weight_type " + name_of(type) + ", configured is " +
               name_of(table.weight_type));
    }
  }

  void check_shape(const std::string& name, const char* dtype, std::uint64_t rows, std::uint64_t dim) const {
    const Tensor tensor = find(name, dtype);
    if (tensor.shape.size() != 2) corrupt("tensor " + name + " has not two dimensions");
    if (tensor.shape[0] != rows) corrupt("tensor " + name + " has another number of rows than its ids");
    if (tensor.shape[1] != dim) {
      mismatch("tensor " + name + " has dim " + std::to_string(tensor.shape[1]) + ", configured is " +
               std::to_string(dim));
    }
  }

  // Of a tensor that may be missing.
  template <typename T>
  std::vector<T> whole(const std::string& name) const {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end()) return {};
    const std::uint64_t bytes = found->second.end - found->second.begin;
    return block<T>(found->second.begin, 0, static_cast<std::size_t>(bytes / sizeof(T)), 1);
  }

  // The weights of `count` rows in float32.
  std::vector<float> wide_block(const TableSpec& table, std::uint64_t begin, std::uint64_t first,
                                std::size_t count) const {
    const RowWeights rows(table.weight_type, table.dim);
    if (rows.is_float32()) return block<float>(begin, first, count, table.dim);
    const auto narrow = block<std::uint16_t>(begin, first, count, table.dim);
    std::vector<float> wide(narrow.size());
    for (std::size_t i = 0; i < count; ++i) {
      rows.read(std::as_bytes(std::span(narrow)).data() + i * rows.bytes(), wide.data() + i * table.dim);
    }
    return wide;
  }

  template <typename T>
  std::vector<T> block(std::uint64_t begin, std::uint64_t first, std::size_t count, std::size_t width) const {
    std::vector<T> values(count * width);
    file_.read_at(data_start_ + begin + first * width * sizeof(T), std::as_writable_bytes(std::span(values)));
    return values;
  }

  std::string path_;
  File file_;
  std::uint64_t data_start_ = 0;
  std::uint64_t data_size_ = 0;
  SafetensorsHeader header_;
};

}  // namespace

PartSize read_parts(const std::vector<std::string>& paths, std::uint32_t server, std::uint32_t servers,
                    const std::vector<TableSpec>& tables, Stores& stores) {
  PartSize size;
  std::vector<std::vector<TableClock>> clocks(tables.size());  // of each table, of each part
  std::vector<SightingsReader> sightings;
  for (const TableSpec& table : tables) sightings.emplace_back(table, server, servers);
  for (const std::string& path : paths) {
    const PartReader part(path, tables, stores);
    size.step = std::max(size.step, part.step());
    for (std::size_t t = 0; t < tables.size(); ++t) {
      clocks[t].push_back(part.clock(tables[t]));
      part.add_sightings(tables[t], sightings[t]);
    }
  }
  std::vector<MergedClock> merged;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    merged.emplace_back(std::move(clocks[t]));
    stores[t]->restore({merged[t].merged(), sightings[t].seen()});
  }
  for (std::size_t p = 0; p < paths.size(); ++p) {
    const PartReader part(paths[p], tables, stores);
    part.check_data();
    size.bytes += part.bytes();
    for (std::size_t t = 0; t < tables.size(); ++t)
      size.rows += part.read(tables[t], server, servers, merged[t], p, *stores[t]);
  }
  return size;
}

}  // namespace persia
