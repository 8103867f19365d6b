// The data of a part: filled in by all threads at once, hashed in order, written where it belongs.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "persia/file.h"
#include "persia/thread_team.h"

namespace persia {

// Items of one size, one after the other.
struct DataSource {
  std::uint64_t items = 0;
  std::uint64_t item_bytes = 0;
  // Items `first` to `first` + `count` - 1 to where they are wanted. Called by several threads.
  std::function<void(std::uint64_t first, std::size_t count, std::byte* to)> fill;
};

// Writes the sources from `offset` of the file on, one behind the other, and returns XXH64 of it all. Each
// thread has one buffer of a megabyte, or of one item if that is larger. Without a team, the calling thread
// does all.
std::uint64_t write_data(File& file, std::uint64_t offset, std::span<const DataSource> sources,
                         ThreadTeam* team);

}  // namespace persia
