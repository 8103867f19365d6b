#include "persia/checkpoint.h"

#include <fstream>

#include "check.h"
#include "helpers.h"
#include "persia/safetensors.h"
#include "persia/sharded_store.h"

namespace persia {

using testing::id;

namespace {

struct Filled {
  std::vector<TableSpec> tables{testing::table("t", 1, 3), testing::table("u", 2, 2, OptimizerKind::kSgd)};
  Stores stores = empty();

  Filled() {
    std::vector<std::uint64_t> ids;
    for (std::uint64_t v = 0; v < 40; ++v) ids.push_back(id(1, v * v));
    std::vector<float> rows(ids.size() * 3);
    stores[0]->lookup_training(ids, rows);
    std::vector<const float*> gradients;
    for (std::size_t i = 0; i < ids.size(); ++i) gradients.push_back(rows.data() + 3 * i);
    stores[0]->update(ids, gradients, {});
  }
  Stores empty() const {
    Stores fresh;
    for (const TableSpec& table : tables) fresh.push_back(make_store(table, 5, 1));
    return fresh;
  }
};

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

ErrorCode load_error(const std::vector<std::string>& paths, const Filled& filled) {
  Stores fresh = filled.empty();
  try {
    read_parts(paths, 0, 1, filled.tables, fresh);
  } catch (const RequestError& error) {
    CHECK(std::string(error.what()).find(paths.back()) != std::string::npos);
    return error.code();
  }
  return ErrorCode{0};
}

}  // namespace

TEST(parts_are_read_by_any_number_of_servers) {
  const testing::TemporaryDirectory directory;
  const Filled filled;
  const PartSize written = write_part(directory.path(), 0, filled.tables, filled.stores, 7);
  CHECK(written.rows == 40);
  const std::string path = directory.path() / part_name(0);
  CHECK(written.bytes == std::filesystem::file_size(path));
  for (std::uint32_t servers = 1; servers <= 3; ++servers) {
    std::uint64_t rows = 0;
    for (std::uint32_t server = 0; server < servers; ++server) {
      Stores fresh = filled.empty();
      rows += read_parts({path}, server, servers, filled.tables, fresh).rows;
      fresh[0]->for_each(
          [&](std::uint64_t key, std::span<const std::byte> weights, std::span<const float>, std::uint32_t) {
            CHECK(server_of(key, servers) == server);
            std::vector<float> expected(3);
            const std::vector<std::uint64_t> one{key};
            CHECK(filled.stores[0]->lookup_evaluation(one, expected).empty());
            const auto bytes = std::as_bytes(std::span(expected));
            CHECK(std::equal(weights.begin(), weights.end(), bytes.begin(), bytes.end()));
          });
    }
    CHECK(rows == 40);
  }
  CHECK(load_error({path, path}, filled) == ErrorCode::kCorruptPart);
}

TEST(parts_do_not_depend_on_the_threads_that_write_and_read_them) {
  const testing::TemporaryDirectory directory;
  std::vector<TableSpec> tables{testing::table("t", 1, 64), testing::table("u", 2, 1, OptimizerKind::kSgd)};
  tables[1].weight_type = WeightType::kBfloat16;
  std::string first;
  for (const std::uint32_t threads : {1U, 2U, 5U}) {
    ThreadTeam team(threads);
    const auto empty = [&] {
      Stores stores;
      for (const TableSpec& table : tables)
        stores.push_back(std::make_unique<ShardedStore>(table, 5, 1, team));
      return stores;
    };
    const Stores filled = empty();
    for (std::uint64_t prefix = 1; prefix <= 2; ++prefix) {
      std::vector<std::uint64_t>
          ids;  // some are hashes, some lie close together; more than fit into a buffer
      for (std::uint64_t v = 0; v < 6000; ++v) ids.push_back(id(prefix, v % 3 == 0 ? v : mix64(v) >> 8));
      std::vector<float> rows(ids.size() * 64);
      filled[prefix - 1]->lookup_training(ids, rows);
    }
    const PartSize written = write_part(directory.path(), 0, tables, filled, 7, &team);
    CHECK(written.rows == 12000);
    const std::string path = directory.path() / part_name(0);
    if (first.empty()) first = read_file(path);
    CHECK(read_file(path) == first);
    Stores read = empty();
    CHECK(read_parts({path}, 0, 1, tables, read, &team).rows == 12000);
    std::filesystem::remove(path);
    write_part(directory.path(), 0, tables, read, 7);  // without a team
    CHECK(read_file(path) == first);
    CHECK_THROWS(RequestError, write_part("/dev/full", 0, tables, read, 7, &team));
  }
}

TEST(every_damage_to_a_part_is_found) {
  const testing::TemporaryDirectory directory;
  const Filled filled;
  write_part(directory.path(), 0, filled.tables, filled.stores, 7);
  const std::string whole = read_file(directory.path() / part_name(0));
  const std::string path = directory.path() / "damaged";
  const auto put = [&](const std::string& content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
  };
  const auto refused = [&] { return load_error({path}, filled) != ErrorCode{0}; };
  put(whole);
  CHECK(!refused());
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    put(damaged);
    CHECK(refused());
  }
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    put(whole.substr(0, size));
    CHECK(refused());
  }
  put(whole + "x");
  CHECK(refused());
  put(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f") + whole);
  CHECK(refused());
  CHECK(load_error({directory.path() / "missing"}, filled) == ErrorCode::kIo);
  CHECK(load_error({directory.path()}, filled) == ErrorCode::kIo);
}

TEST(parts_of_other_tables_are_refused) {
  const testing::TemporaryDirectory directory;
  const Filled filled;
  write_part(directory.path(), 0, filled.tables, filled.stores, 7);
  const std::string path = directory.path() / part_name(0);
  Filled other;
  other.tables[0].dim = 4;
  CHECK(load_error({path}, other) == ErrorCode::kPartMismatch);
  Filled swapped;
  std::swap(swapped.tables[0].prefix, swapped.tables[1].prefix);
  CHECK(load_error({path}, swapped) == ErrorCode::kCorruptPart);
  Filled renamed;
  renamed.tables[1].name = "v";
  CHECK(load_error({path}, renamed) == ErrorCode::kPartMismatch);
}

TEST(a_failed_save_leaves_nothing) {
  const Filled filled;
  const testing::TemporaryDirectory directory;
  std::filesystem::create_directory(directory.path() / part_name(0));  // rename cannot replace a directory
  CHECK_THROWS(RequestError, write_part(directory.path(), 0, filled.tables, filled.stores, 7));
  CHECK(!std::filesystem::exists(directory.path() / (part_name(0) + ".tmp")));
  CHECK_THROWS(RequestError, write_part(directory.path() / "missing", 0, filled.tables, filled.stores, 7));
}

TEST(safetensors_headers_are_parsed_strictly) {
  CHECK(parse_safetensors_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} )", 8)
            .tensors.size() == 1);
  for (
      const char* bad : {
          "",
          "{",
          "[]",
          R"({"a":1})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}x)",
          R"({"a":{"dtype":"F32","shape":[2]}})",
          R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"I8","shape":[8],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})",
          R"({"a":{"dtype":"F32","shape":[99999999999999999999999],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          R"({"a\n":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      }) {
    CHECK_THROWS(std::invalid_argument, parse_safetensors_header(bad, 8));
  }
}

}  // namespace persia
