#include "sorted_places.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include "on_all_threads.h"

namespace persia {
namespace {

using Place = EmbeddingStore::Place;

constexpr std::uint64_t kRowsPerBucket = 4;

// Ids are hashes: equal ranges of them hold about equally many. Whatever they are, the order comes out right.
std::uint64_t range_of(std::uint64_t key, std::uint64_t ranges) {
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(key) * ranges) >> 64);
}

// The rows of range `range` of `ranges`, ascending, into `to`: first into buckets, which are ranges too.
void sort_range(std::span<const std::vector<Place>* const> pieces, std::uint64_t range, std::uint64_t ranges,
                std::uint32_t prefix_bits, std::span<Place> to) {
  const std::uint64_t buckets = std::bit_ceil(to.size() / kRowsPerBucket + 1);
  const auto bucket_of = [&](const Place& place) {
    return range_of(place.id << prefix_bits, ranges * buckets) - range * buckets;
  };
  std::vector<std::size_t> ends(buckets + 1, 0);
  for (const std::vector<Place>* piece : pieces) {
    for (const Place& place : *piece) ++ends[bucket_of(place) + 1];
  }
  for (std::uint64_t b = 1; b <= buckets; ++b) ends[b] += ends[b - 1];
  for (const std::vector<Place>* piece : pieces) {
    for (const Place& place : *piece) to[ends[bucket_of(place)]++] = place;
  }
  // Each end has moved on to that of its bucket, which is where the next one starts.
  std::size_t begin = 0;
  for (std::uint64_t b = 0; b < buckets; ++b) {
    std::sort(to.begin() + static_cast<std::ptrdiff_t>(begin),
              to.begin() + static_cast<std::ptrdiff_t>(ends[b]),
              [](const Place& one, const Place& other) { return one.id < other.id; });
    begin = ends[b];
  }
}

}  // namespace

std::vector<Place> sorted_places(const EmbeddingStore& store, const TableSpec& table, bool changed,
                                 ThreadTeam* team) {
  const std::uint32_t shards = store.shards();
  const std::uint64_t ranges = team != nullptr ? team->size() : 1;
  std::vector<std::vector<std::vector<Place>>> pieces(shards);  // by shard and range
  on_all_threads(team, shards, [&](std::uint32_t shard) {
    pieces[shard].resize(ranges);
    std::vector<Place> all;
    store.append_places(shard, changed, all);
    if (ranges == 1) {
      pieces[shard][0] = std::move(all);
      return;
    }
    for (const Place& place : all) {
      pieces[shard][range_of(place.id << table.prefix_bits, ranges)].push_back(place);
    }
  });
  std::vector<std::size_t> starts(ranges + 1, 0);
  for (std::uint64_t range = 0; range < ranges; ++range) {
    starts[range + 1] = starts[range];
    for (const auto& of_shard : pieces) starts[range + 1] += of_shard[range].size();
  }
  std::vector<Place> sorted(starts.back());
  on_all_threads(team, static_cast<std::uint32_t>(ranges), [&](std::uint32_t range) {
    std::vector<const std::vector<Place>*> of_range;
    for (const auto& of_shard : pieces) of_range.push_back(&of_shard[range]);
    const std::span<Place> to = std::span(sorted).subspan(starts[range], starts[range + 1] - starts[range]);
    sort_range(of_range, range, ranges, table.prefix_bits, to);
  });
  return sorted;
}

}  // namespace persia
