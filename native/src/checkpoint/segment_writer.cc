#include <unistd.h>

#include <array>
#include <cstring>

#include "data_writer.h"
#include "persia/file.h"
#include "persia/table_segment.h"
#include "segment_format.h"

namespace persia {
namespace {

using Place = EmbeddingStore::Place;

void write_history(Writer& writer, const TableHistory& history) {
  writer.value(history.clock.clock);
  writer.value(static_cast<std::uint32_t>(history.clock.days.size()));
  for (const DayStart& each : history.clock.days) {
    writer.value(each.day);
    writer.value(each.clock);
  }
  writer.value(static_cast<std::uint64_t>(history.sightings.ids.size()));
  writer.array(std::span<const std::uint64_t>(history.sightings.ids));
  writer.array(std::span<const std::uint8_t>(history.sightings.counts));
}

Bytes front_of(const std::vector<SegmentShard>& shards, const Stores& stores) {
  Writer writer;
  for (const SegmentShard& each : shards) {
    writer.value(each.rows);
    writer.value(each.places);
    writer.value(each.data_xxh64);
  }
  for (const auto& store : stores) write_history(writer, store->history());
  return writer.take();
}

// Places, then rows. Where the data end.
std::uint64_t write_shard(File& file, std::uint64_t at, const EmbeddingStore& store, std::uint32_t shard,
                          SegmentShard& written) {
  std::vector<Place> places;
  store.append_places(shard, false, places);
  const EmbeddingStore::RowArea area = store.row_area(shard);
  const std::array<DataSource, 2> sources{
      DataSource{places.size(), sizeof(Place),
                 [&](std::uint64_t first, std::size_t count, std::byte* to) {
                   std::memcpy(to, places.data() + first, count * sizeof(Place));
                 }},
      DataSource{area.pieces, area.piece_bytes, [&](std::uint64_t first, std::size_t count, std::byte* to) {
                   store.copy_pieces(shard, first, count, to);
                 }}};
  written = {area.rows, places.size(), write_data(file, at, sources, nullptr)};
  return at + places.size() * sizeof(Place) + area.pieces * area.piece_bytes;
}

void put_header(File& file, const SegmentHeader& header) {
  file.write_at(0, std::as_bytes(std::span(&header, 1)));
}

}  // namespace

std::filesystem::path segment_path(const std::filesystem::path& directory, std::uint32_t server) {
  return directory / ("tables-" + std::to_string(server) + ".segment");
}

void write_segment(const std::filesystem::path& path, const SegmentName& name, const PartSize& part,
                   const Stores& stores) {
  File file = File::open_or_create(path);
  try {
    put_header(file, SegmentHeader{});  // torn, whatever it was
    SegmentHeader header;
    header.server = name.server;
    header.servers = name.servers;
    header.threads = name.threads;
    header.tables = static_cast<std::uint32_t>(stores.size());
    header.configuration = name.configuration;
    header.part = name.part;
    header.step = part.step;
    header.cut = part.cut;
    std::vector<SegmentShard> shards(stores.size() * name.threads);
    header.front_bytes = front_of(shards, stores).size();
    header.bytes = sizeof header + header.front_bytes;
    for (std::size_t t = 0; t < stores.size(); ++t) {
      for (std::uint32_t s = 0; s < name.threads; ++s) {
        header.bytes = write_shard(file, header.bytes, *stores[t], s, shards[t * name.threads + s]);
      }
    }
    for (const SegmentShard& each : shards) header.rows += each.places;
    const Bytes front = front_of(shards, stores);
    file.write_at(sizeof header, front);
    file.truncate(header.bytes);
    header.front_xxh64 = xxh64(front, 0);
    header.state = SegmentState::kWhole;
    header.header_xxh64 = header.checksum();
    put_header(file, header);
  } catch (...) {
    ::unlink(path.c_str());
    throw;
  }
}

}  // namespace persia
