#include <algorithm>
#include <functional>
#include <system_error>

#include "chain.h"
#include "part_reader.h"
#include "persia/error.h"
#include "persia/file.h"
#include "persia/ids.h"
#include "persia/row_index.h"
#include "persia/sharded_store.h"
#include "persia/table_segment.h"
#include "segment_format.h"

namespace persia {
namespace {

using Place = EmbeddingStore::Place;

constexpr std::uint64_t kBlockBytes = 1 << 20;  // read and hashed at once

[[noreturn]] void refuse(const std::string& why) {
  throw SegmentRefused(why);
}

void require(bool holds, const char* why) {
  if (!holds) refuse(why);
}

File opened(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) refuse("is not there");
  return File::open(path);
}

SegmentHeader read_header(const File& file, std::uint64_t size) {
  SegmentHeader header;
  require(size >= sizeof header, "ends too early");
  file.read_at(0, std::as_writable_bytes(std::span(&header, 1)));
  require(header.magic == SegmentHeader::kMagic, "is no segment");
  require(header.version == SegmentHeader::kVersion, "is of another version");
  require(header.state != SegmentState::kTorn, "is torn: whoever wrote it did not come to its end");
  require(header.header_xxh64 == header.checksum() && header.state == SegmentState::kWhole,
          "is damaged: its header does not match its checksum");
  return header;
}

void require_same(const SegmentHeader& header, const SegmentName& name, std::size_t tables) {
  require(header.server == name.server && header.servers == name.servers,
          "is of another server, or of another number of servers");
  require(header.threads == name.threads, "is of another number of threads");
  require(header.configuration == name.configuration && header.tables == tables,
          "is of another configuration");
  require(header.part == name.part, "is of another cut");
}

// The data of a shard, from the first byte to the last.
class Stretch {
 public:
  Stretch(const File& file, std::uint64_t at) : file_(file), at_(at) {}
  void read(std::span<std::byte> to) {
    while (!to.empty()) {
      const auto block = to.first(std::min<std::uint64_t>(to.size(), kBlockBytes));
      file_.read_at(at_, block);
      hash_.update(block);
      at_ += block.size();
      to = to.subspan(block.size());
    }
  }
  std::uint64_t digest() const { return hash_.digest(); }

 private:
  const File& file_;
  std::uint64_t at_;
  Xxh64 hash_{0};
};

class SegmentReader {
 public:
  SegmentReader(const File& file, const SegmentHeader& header, const SegmentName& name,
                const std::vector<TableSpec>& tables, Stores& stores)
      : file_(file), name_(name), tables_(tables), stores_(stores) {
    require(header.bytes >= sizeof header && header.front_bytes <= header.bytes - sizeof header,
            "is damaged: its front is too long");
    Bytes front(header.front_bytes);
    file.read_at(sizeof header, front);
    require(xxh64(front, 0) == header.front_xxh64, "is damaged: its front does not match its checksum");
    Reader reader(front);
    for (std::size_t i = 0; i < stores.size() * name.threads; ++i) {
      SegmentShard& shard = shards_.emplace_back();
      shard.rows = reader.value<std::uint64_t>();
      shard.places = reader.value<std::uint64_t>();
      shard.data_xxh64 = reader.value<std::uint64_t>();
    }
    for (const auto& store : stores) store->restore(history_from(reader));
    reader.end();
    plan(sizeof header + front.size(), header.bytes);
  }

  void attach(std::size_t table, std::uint32_t s) {
    const SegmentShard& shard = shards_[table * name_.threads + s];
    Stretch data(file_, begins_[table * name_.threads + s]);
    std::vector<Place> places(shard.places);
    data.read(std::as_writable_bytes(std::span(places)));
    for (const Place& each : places) {
      require(tables_[table].owns(each.id) && server_of(each.id, name_.servers) == name_.server &&
                  shard_of(each.id, name_.threads) == s,
              "is damaged: it holds an id that belongs elsewhere");
    }
    stores_[table]->attach(s, shard.rows, places, [&](std::span<std::byte> memory) { data.read(memory); });
    require(data.digest() == shard.data_xxh64, "is damaged: its rows do not match their checksum");
  }

 private:
  static TableHistory history_from(Reader& reader) {
    TableHistory history;
    history.clock.clock = reader.value<std::uint32_t>();
    const auto days = reader.value<std::uint32_t>();
    for (std::uint32_t i = 0; i < days; ++i) {
      const auto day = reader.value<std::uint32_t>();
      history.clock.days.push_back({day, reader.value<std::uint32_t>()});
    }
    const auto seen = reader.value<std::uint64_t>();
    history.sightings.ids = reader.array<std::uint64_t>(seen);
    history.sightings.counts = reader.array<std::uint8_t>(seen);
    return history;
  }

  // Where the data of each shard begin. Together they are the rest of the file.
  void plan(std::uint64_t at, std::uint64_t end) {
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      const SegmentShard& shard = shards_[i];
      require(shard.places <= shard.rows && shard.rows <= RowIndex::kMaxRows,
              "is damaged: it has too many rows");
      begins_.push_back(at);
      at += shard.places * sizeof(Place) + stores_[i / name_.threads]->area_bytes(shard.rows);
      require(at <= end, "is damaged: its rows reach beyond its end");
    }
    require(at == end, "is damaged: bytes are left over");
  }

  const File& file_;
  const SegmentName& name_;
  const std::vector<TableSpec>& tables_;
  Stores& stores_;
  std::vector<SegmentShard> shards_;  // by table, then by thread
  std::vector<std::uint64_t> begins_;
};

}  // namespace

std::optional<std::uint64_t> step_of_segment(const std::filesystem::path& path) {
  try {
    const File file = opened(path);
    return read_header(file, file.size()).step;
  } catch (const SegmentRefused&) {
    return std::nullopt;
  } catch (const RequestError&) {
    return std::nullopt;
  }
}

void attach_segment(const std::filesystem::path& path, const SegmentName& name,
                    const std::vector<TableSpec>& tables, Stores& stores, ThreadTeam& team) {
  try {
    const File file = opened(path);
    const std::uint64_t size = file.size();
    const SegmentHeader header = read_header(file, size);
    require_same(header, name, tables.size());
    require(size == header.bytes, "ends too early, or too late");
    SegmentReader reader(file, header, name, tables, stores);
    team.run([&](std::uint32_t s) {
      for (std::size_t t = 0; t < tables.size(); ++t) reader.attach(t, s);
    });
  } catch (const RequestError& error) {  // it cannot be read, or ends within what it claims to hold
    refuse(std::string("cannot be read: ") + error.what());
  } catch (const std::invalid_argument& error) {
    refuse(std::string("is damaged: ") + error.what());
  }
}

std::optional<PartSize> own_part(const std::vector<std::string>& paths, std::uint32_t server,
                                 std::uint32_t servers, const std::vector<TableSpec>& tables,
                                 const Stores& stores) {
  PartSize size;
  std::vector<PartReader> parts;
  for (const std::string& path : paths) {
    size.step = std::max(size.step, parts.emplace_back(path, tables, stores).step());
  }
  const Chain chain = chain_of(parts);
  if (chain.empty() || chain.back().size() != servers) return std::nullopt;
  const auto is_own = [&](std::size_t p) {
    return std::filesystem::path(parts[p].path()).filename() == part_name(server);
  };
  const auto own = std::ranges::find_if(chain.back(), is_own);
  if (own == chain.back().end()) return std::nullopt;
  for (const TableSpec& table : tables) {
    const TableClock clock = parts[*own].clock(table);
    for (const std::size_t p : chain.back()) {
      const TableClock other = parts[p].clock(table);
      if (other.clock != clock.clock || other.days != clock.days) return std::nullopt;
    }
  }
  size.cut = parts[*own].cut().number;
  size.checksum = parts[*own].checksum();
  return size;
}

}  // namespace persia
