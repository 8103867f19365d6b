// tables-<server>.segment: the tables of a server as they lay in memory at its last cut, from which a server
// that is started again takes them instead of reading parts. See docs/formats/table_segment.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "persia/checkpoint.h"
#include "persia/table_spec.h"
#include "persia/thread_team.h"

namespace persia {

// Of what a segment is. All of it must be equal for the tables to be taken from there.
struct SegmentName {
  std::uint32_t server = 0;
  std::uint32_t servers = 1;
  std::uint32_t threads = 1;        // each has a part of every table
  std::uint64_t configuration = 0;  // a digest of what decides which rows there are and what is in them
  std::uint64_t part = 0;           // PartSize::checksum of the part that has the same rows
};

// Why tables are not taken from a segment: "is torn ...".
class SegmentRefused : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::filesystem::path segment_path(const std::filesystem::path& directory, std::uint32_t server);

// Writes all that `stores` hold, of which the part of `part` was written. The segment is torn until its last
// byte is there. Throws RequestError (kNoSpace, kIo) naming the path; then there is no segment. Takes 16
// bytes per row of one thread's part of a table, and a buffer of a megabyte.
void write_segment(const std::filesystem::path& path, const SegmentName& name, const PartSize& part,
                   const Stores& stores);

// PartSize::step of the cut that a segment holds; nothing if it is torn or there is none. Reads the header.
std::optional<std::uint64_t> step_of_segment(const std::filesystem::path& path);

// Puts the rows of the segment into `stores`, which must be empty and of as many shards as `name` has
// threads. Checks every byte. Throws SegmentRefused; `stores` are then to be thrown away.
void attach_segment(const std::filesystem::path& path, const SegmentName& name,
                    const std::vector<TableSpec>& tables, Stores& stores, ThreadTeam& team);

// What parts say of the cut that they are of together, as read_parts() would find it but for the rows,
// and the checksum of the part that `server` wrote. Nothing if `servers` servers have not written them with
// one clock: then rows come from several parts. Reads headers only; throws as read_parts().
std::optional<PartSize> own_part(const std::vector<std::string>& paths, std::uint32_t server,
                                 std::uint32_t servers, const std::vector<TableSpec>& tables,
                                 const Stores& stores);

}  // namespace persia
