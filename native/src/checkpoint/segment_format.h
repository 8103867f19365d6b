// The header of a segment, as its writer and its reader share it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "persia/codec.h"
#include "persia/ids.h"
#include "persia/store.h"

namespace persia {

enum class SegmentState : std::uint32_t { kTorn = 0, kWhole = 1 };

// Followed by `front_bytes`: a SegmentShard for each shard of each table, then what each table remembers
// beside its rows. Then the data of each shard: places, and the memory of the rows.
struct SegmentHeader {
  static constexpr std::array<char, 8> kMagic = {'P', 'E', 'R', 'S', 'I', 'A', 'T', 'S'};
  static constexpr std::uint32_t kVersion = 1;

  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  SegmentState state = SegmentState::kTorn;
  std::uint32_t server = 0;
  std::uint32_t servers = 0;
  std::uint32_t threads = 0;
  std::uint32_t tables = 0;
  std::uint64_t configuration = 0;
  std::uint64_t part = 0;
  std::uint64_t step = 0;
  std::uint64_t cut = 0;
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;  // of the file
  std::uint64_t front_bytes = 0;
  std::uint64_t front_xxh64 = 0;
  std::uint64_t header_xxh64 = 0;  // of all before it

  std::uint64_t checksum() const {
    const auto bytes_of = std::as_bytes(std::span(this, 1));
    return xxh64(bytes_of.first(offsetof(SegmentHeader, header_xxh64)), 0);
  }
};
static_assert(sizeof(SegmentHeader) == 104 && std::has_unique_object_representations_v<SegmentHeader>);

struct SegmentShard {
  std::uint64_t rows = 0;    // that memory is there for
  std::uint64_t places = 0;  // of rows that have an id
  std::uint64_t data_xxh64 = 0;
};
static_assert(sizeof(SegmentShard) == 24);

static_assert(sizeof(EmbeddingStore::Place) == 16 &&
                  std::has_unique_object_representations_v<EmbeddingStore::Place>,
              "places are written as they lie in memory");

}  // namespace persia
