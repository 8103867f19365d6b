// One embedding part, opened and checked. See docs/formats/wire.md, "Embedding parts".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "persia/checkpoint.h"
#include "persia/day_list.h"
#include "persia/file.h"
#include "persia/part_history.h"
#include "persia/safetensors.h"

namespace persia {

// Everything throws RequestError (kCorruptPart, kPartMismatch, kIo) naming the file.
class PartReader {
 public:
  // Reads and checks the header.
  PartReader(const std::string& path, const std::vector<TableSpec>& tables, const Stores& stores);

  const std::string& path() const { return path_; }
  std::uint64_t bytes() const { return data_start_ + data_size_; }
  std::uint64_t step() const;
  void add_sightings(const TableSpec& table, SightingsReader& reader) const;
  TableClock clock(const TableSpec& table) const;
  std::uint64_t rows(const TableSpec& table) const;
  const CutName& cut() const { return cut_; }
  // That its data are to have.
  std::uint64_t checksum() const;
  // Ascending; of a delta.
  std::vector<std::uint64_t> removed(const TableSpec& table) const;
  // Against the checksum: reads all of it.
  void check_data() const;
  // Checks every id, also of rows that belong to other servers. How many belong to this one.
  std::uint64_t count_own(const TableSpec& table, std::uint32_t server, std::uint32_t servers) const;

  // Some rows, as they lie in the file. `count` is room for the rows that are asked for.
  void read_ids(const TableSpec& table, std::uint64_t first, std::span<std::uint64_t> ids) const;
  // Zeros where the part does not know.
  void read_last_used(const TableSpec& table, std::uint64_t first, std::span<std::uint64_t> last_used) const;
  void read_weights(const TableSpec& table, std::uint64_t first, std::span<std::byte> weights) const;
  void read_state(const TableSpec& table, std::uint64_t first, std::span<float> state) const;

  [[noreturn]] void corrupt(const std::string& what) const;
  [[noreturn]] void mismatch(const std::string& what) const;

 private:
  std::string metadata(const std::string& key) const;
  std::uint64_t cut_number(const std::string& key) const;
  void read_cut();
  void check_tables(const std::vector<TableSpec>& tables, const Stores& stores);
  Tensor find(const std::string& name, const char* dtype) const;
  std::size_t check_optional(const std::string& name, std::optional<std::uint64_t> rows, std::uint64_t width,
                             const char* dtype = "U64") const;
  void check_weight_type(const TableSpec& table) const;
  void check_shape(const std::string& name, const char* dtype, std::uint64_t rows, std::uint64_t dim) const;
  // Items from `first` on of a tensor that is there.
  template <typename T>
  void read_items(const std::string& name, std::uint64_t first, std::span<T> items) const;
  // Of a tensor that may be missing.
  template <typename T>
  std::vector<T> whole(const std::string& name) const;

  std::string path_;
  File file_;
  std::uint64_t data_start_ = 0;
  std::uint64_t data_size_ = 0;
  SafetensorsHeader header_;
  CutName cut_;
};

}  // namespace persia
