#include "part_reader.h"

#include <algorithm>
#include <charconv>

#include "persia/codec.h"
#include "persia/error.h"
#include "persia/ids.h"
#include "persia/part_format.h"

namespace persia {
namespace {

constexpr std::size_t kBlockBytes = 1 << 20;

}  // namespace

PartReader::PartReader(const std::string& path, const std::vector<TableSpec>& tables, const Stores& stores)
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

std::uint64_t PartReader::step() const {
  return whole<std::uint64_t>("step").at(0);
}

void PartReader::add_sightings(const TableSpec& table, SightingsReader& reader) const {
  try {
    reader.add(whole<std::uint64_t>(table.name + ".seen_ids"),
               whole<std::uint8_t>(table.name + ".sightings"));
  } catch (const std::invalid_argument& error) {
    corrupt("table " + table.name + ": " + error.what());
  }
}

TableClock PartReader::clock(const TableSpec& table) const {
  try {
    return clock_from(whole<std::uint64_t>(table.name + ".clock"),
                      whole<std::uint64_t>(table.name + ".days"));
  } catch (const std::invalid_argument& error) {
    corrupt("table " + table.name + ": " + error.what());
  }
}

std::uint64_t PartReader::rows(const TableSpec& table) const {
  return header_.tensors.at(table.name + ".ids").shape[0];
}

std::uint64_t PartReader::count_own(const TableSpec& table, std::uint32_t server,
                                    std::uint32_t servers) const {
  const std::uint64_t all = rows(table);
  std::vector<std::uint64_t> ids(std::min<std::uint64_t>(all, kBlockBytes / sizeof(std::uint64_t)));
  std::uint64_t own = 0;
  std::uint64_t previous = 0;
  for (std::uint64_t first = 0; first < all; first += ids.size()) {
    const auto block = std::span(ids).first(std::min<std::uint64_t>(ids.size(), all - first));
    read_ids(table, first, block);
    for (std::size_t i = 0; i < block.size(); ++i) {
      if (!table.owns(block[i]))
        corrupt("id " + hex64(block[i]) + " has not the prefix of table " + table.name);
      // So every server finds an id that is there twice, not only the one that owns it.
      if (first + i > 0 && block[i] <= previous) corrupt("the ids of table " + table.name + " do not ascend");
      previous = block[i];
      own += server_of(block[i], servers) == server ? 1 : 0;
    }
  }
  return own;
}

void PartReader::read_ids(const TableSpec& table, std::uint64_t first, std::span<std::uint64_t> ids) const {
  read_items(table.name + ".ids", first, ids);
}

void PartReader::read_last_used(const TableSpec& table, std::uint64_t first,
                                std::span<std::uint64_t> last_used) const {
  const std::string name = table.name + ".last_used";
  if (!header_.tensors.contains(name)) {
    std::ranges::fill(last_used, 0);
    return;
  }
  read_items(name, first, last_used);
}

void PartReader::read_weights(const TableSpec& table, std::uint64_t first,
                              std::span<std::byte> weights) const {
  const Tensor& tensor = header_.tensors.at(table.name + ".weights");
  const std::uint64_t row_bytes = element_bytes(tensor.dtype) * table.dim;
  file_.read_at(data_start_ + tensor.begin + first * row_bytes, weights);
}

void PartReader::read_state(const TableSpec& table, std::uint64_t first, std::span<float> state) const {
  if (state.empty()) return;
  const Tensor& tensor = header_.tensors.at(table.name + ".state");
  file_.read_at(data_start_ + tensor.begin + first * tensor.shape[1] * sizeof(float),
                std::as_writable_bytes(state));
}

void PartReader::check_data() const {
  Xxh64 hash(0);
  Bytes buffer(kBlockBytes);
  for (std::uint64_t at = 0; at < data_size_; at += buffer.size()) {
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), data_size_ - at));
    file_.read_at(data_start_ + at, piece);
    hash.update(piece);
  }
  if (hex64(hash.digest()) != metadata("data_xxh64")) corrupt("the data does not match its checksum");
}

std::uint64_t PartReader::checksum() const {
  const std::string text = metadata("data_xxh64");
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (hex64(number) != text) corrupt("metadata data_xxh64 is no checksum");
  return number;
}

void PartReader::corrupt(const std::string& what) const {
  throw RequestError(ErrorCode::kCorruptPart, path_ + ": " + what);
}

void PartReader::mismatch(const std::string& what) const {
  throw RequestError(ErrorCode::kPartMismatch, path_ + ": " + what);
}

std::string PartReader::metadata(const std::string& key) const {
  const auto found = header_.metadata.find(key);
  if (found == header_.metadata.end()) corrupt("is no embedding part: metadata " + key + " is missing");
  return found->second;
}

std::uint64_t PartReader::cut_number(const std::string& key) const {
  const std::string text = metadata(key);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc() || number == 0 || hex64(number) != text)
    corrupt("metadata " + key + " is no number of a cut");
  return number;
}

void PartReader::read_cut() {
  std::size_t expected = 3;
  if (header_.metadata.contains(kCutKey)) {
    cut_.number = cut_number(kCutKey);
    ++expected;
  }
  if (header_.metadata.contains(kFollowsKey)) {
    cut_.follows = cut_number(kFollowsKey);
    if (cut_.number == 0 || cut_.number == *cut_.follows) corrupt("a delta follows another cut than its own");
    ++expected;
  }
  if (header_.metadata.size() != expected) corrupt("there is unknown metadata");
}

std::vector<std::uint64_t> PartReader::removed(const TableSpec& table) const {
  std::vector<std::uint64_t> ids = whole<std::uint64_t>(table.name + ".removed_ids");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!table.owns(ids[i]))
      corrupt("removed id " + hex64(ids[i]) + " has not the prefix of table " + table.name);
    if (i > 0 && ids[i] <= ids[i - 1]) corrupt("the removed ids of table " + table.name + " do not ascend");
  }
  return ids;
}

void PartReader::check_tables(const std::vector<TableSpec>& tables, const Stores& stores) {
  if (metadata("format") != kPartFormat)
    corrupt("is no embedding part: format is not " + std::string(kPartFormat));
  read_cut();
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
    check_shape(tables[t].name + ".weights", dtype_of(tables[t].weight_type), ids.shape[0], stores[t]->dim());
    if (stores[t]->state_dim() > 0)
      check_shape(tables[t].name + ".state", "F32", ids.shape[0], stores[t]->state_dim());
    expected_tensors += stores[t]->state_dim() > 0 ? 3 : 2;
    // A table may have been given a capacity or an age, or have lost it, since: then all rows are equally
    // old.
    expected_tensors += check_optional(tables[t].name + ".last_used", ids.shape[0], 0);
    expected_tensors += check_optional(tables[t].name + ".clock", 1, 0);
    expected_tensors += check_optional(tables[t].name + ".days", std::nullopt, 2);
    if (cut_.follows) {
      const Tensor removed = find(tables[t].name + ".removed_ids", "U64");
      if (removed.shape.size() != 1)
        corrupt("tensor " + tables[t].name + ".removed_ids has not one dimension");
      ++expected_tensors;
    }
    expected_tensors += check_optional(tables[t].name + ".seen_ids", std::nullopt, 0);
    expected_tensors += check_optional(tables[t].name + ".sightings", std::nullopt, 0, "U8");
  }
  if (header_.tensors.size() != expected_tensors) mismatch("holds tensors of tables that are not configured");
}

Tensor PartReader::find(const std::string& name, const char* dtype) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) mismatch("has no tensor " + name);
  if (found->second.dtype != dtype) corrupt("tensor " + name + " has dtype " + found->second.dtype);
  return found->second;
}

// How many there are of it. `rows` may be any number if it is nothing; without `width`, one dimension.
std::size_t PartReader::check_optional(const std::string& name, std::optional<std::uint64_t> rows,
                                       std::uint64_t width, const char* dtype) const {
  if (!header_.tensors.contains(name)) return 0;
  const Tensor tensor = find(name, dtype);
  const bool dimensions = tensor.shape.size() == (width > 0 ? 2 : 1);
  if (!dimensions || (rows && tensor.shape[0] != *rows) || (width > 0 && tensor.shape[1] != width))
    corrupt("tensor " + name + " has a wrong shape");
  return 1;
}

void PartReader::check_weight_type(const TableSpec& table) const {
  const auto found = header_.tensors.find(table.name + ".weights");
  if (found == header_.tensors.end()) return;  // check_shape() says so
  for (const WeightType type : {WeightType::kFloat32, WeightType::kBfloat16, WeightType::kFloat16}) {
    if (type == table.weight_type || found->second.dtype != dtype_of(type)) continue;
    mismatch("table " + table.name + " was saved with weight_type " + name_of(type) + ", configured is " +
             name_of(table.weight_type));
  }
}

void PartReader::check_shape(const std::string& name, const char* dtype, std::uint64_t rows,
                             std::uint64_t dim) const {
  const Tensor tensor = find(name, dtype);
  if (tensor.shape.size() != 2) corrupt("tensor " + name + " has not two dimensions");
  if (tensor.shape[0] != rows) corrupt("tensor " + name + " has another number of rows than its ids");
  if (tensor.shape[1] != dim) {
    mismatch("tensor " + name + " has dim " + std::to_string(tensor.shape[1]) + ", configured is " +
             std::to_string(dim));
  }
}

template <typename T>
void PartReader::read_items(const std::string& name, std::uint64_t first, std::span<T> items) const {
  file_.read_at(data_start_ + header_.tensors.at(name).begin + first * sizeof(T),
                std::as_writable_bytes(items));
}

template <typename T>
std::vector<T> PartReader::whole(const std::string& name) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) return {};
  std::vector<T> items((found->second.end - found->second.begin) / sizeof(T));
  read_items<T>(name, 0, items);
  return items;
}

}  // namespace persia
