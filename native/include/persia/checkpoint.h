// embedding-<server>.safetensors: all rows of one server. See docs/formats/wire.md, "Embedding parts".
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "persia/store.h"
#include "persia/table_spec.h"
#include "persia/thread_team.h"

namespace persia {

using Stores = std::vector<std::unique_ptr<EmbeddingStore>>;  // one per table, in order

// Which cut of a chain a part is of: a base, and deltas that each follow the one before.
struct CutName {
  std::uint64_t number = 0;              // 0: of no chain
  std::optional<std::uint64_t> follows;  // of a delta: the cut that its rows have changed since
};

struct PartSize {
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;
  std::uint64_t step = 0;      // updates that the server had applied; of several parts the most
  std::uint64_t cut = 0;       // of several parts the last
  std::uint64_t checksum = 0;  // of the data of one part that was written
};

std::string part_name(std::uint32_t server);
// What the part is called while it is being written.
std::filesystem::path temporary_part(const std::filesystem::path& directory, std::uint32_t server);

// Writes all rows, of a delta those that the last cut of the stores has set apart, ids ascending, durably: to
// a temporary name, fsync, rename, fsync of the directory. Throws RequestError (kNoSpace, kIo) naming the
// path; then no file is left behind. All threads of `team` work on it, or without one the calling thread.
// Beside the tables it takes 16 bytes per row, while the rows of a table are sorted 16 more for each of
// these, and a buffer of a megabyte per thread.
PartSize write_part(const std::filesystem::path& directory, std::uint32_t server,
                    const std::vector<TableSpec>& tables, const Stores& stores, std::uint64_t step,
                    ThreadTeam* team = nullptr, const CutName& cut = {});

// Puts the rows that are of `server` into `stores`, which must be empty: those of the parts of one cut, and
// of the deltas that follow it, in any order. Checks every part that has such rows completely. Throws
// RequestError (kCorruptPart, kPartMismatch, kIo) naming the file; `stores` are then to be thrown away.
PartSize read_parts(const std::vector<std::string>& paths, std::uint32_t server, std::uint32_t servers,
                    const std::vector<TableSpec>& tables, Stores& stores, ThreadTeam* team = nullptr);

}  // namespace persia
