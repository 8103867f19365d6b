// The segment of the tables: written with each cut, taken again by LOAD.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <system_error>

#include "persia/server.h"
#include "persia/table_segment.h"

namespace persia {
namespace {

std::string counted(std::size_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace

// To the log of the job. Also from a process that was forked: without the locks of <cstdio>.
void Server::say(const std::string& text) const {
  ::dprintf(STDERR_FILENO, "[embedding server %u] %s\n", index_, text.c_str());
}

SegmentName Server::segment_name(const ConfigureRequest& request, std::uint64_t part) const {
  // Neither the trainers nor how they reach this server decide what a row is.
  ConfigureRequest tables_only = request;
  tables_only.trainers = tables_only.staleness = 1;
  tables_only.combine = false;
  tables_only.values = WeightType::kFloat32;
  return {index_, request.servers, team_.size(), xxh64(tables_only.encode(), 0), part};
}

// In the process that saves. Without a segment there is a cut all the same: it is said here, and counted by
// settle_segment().
void Server::keep_segment(const Configured& state, const PartSize& part) const {
  if (options_.segments.empty()) return;
  try {
    write_segment(segment_path(options_.segments, index_), segment_name(state.request, part.checksum), part,
                  state.tables.stores());
  } catch (const RequestError& error) {
    say(std::string("the tables are not kept in memory: ") + error.what());
  }
}

void Server::settle_segment() {
  if (!segment_step_) return;
  const auto found = step_of_segment(segment_path(options_.segments, index_));
  ++(found == segment_step_ ? segments_.written : segments_.failed);
  segment_step_.reset();
}

// The tables of the cut of `paths`, if the segment of this server holds them; else it says why not.
std::optional<TableSet> Server::attached(const Configured& state, const std::vector<std::string>& paths,
                                         PartSize& size) {
  if (options_.segments.empty()) return std::nullopt;
  const std::filesystem::path path = segment_path(options_.segments, index_);
  const std::vector<TableSpec>& tables = state.request.tables;
  TableSet fresh(tables, state.request.seed, state.request.servers, team_);
  try {
    const auto own = own_part(paths, index_, state.request.servers, tables, fresh.stores());
    if (!own) throw SegmentRefused("is of one server, and the parts are not of as many as there are now");
    attach_segment(path, segment_name(state.request, own->checksum), tables, fresh.stores(), team_);
    size = *own;
    for (const auto& store : fresh.stores()) size.rows += store->statistics().rows;
  } catch (const SegmentRefused& refused) {
    ++segments_.refused;
    say("reloading " + counted(tables.size(), "table") + " from " + counted(paths.size(), "part") +
        ": the segment " + path.string() + " " + refused.what());
    // Whoever starts this server again spares parts that a segment stands for: not for one that does not.
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    return std::nullopt;
  }
  ++segments_.attached;
  say("re-attached " + counted(tables.size(), "table") + " with " + counted(size.rows, "row") + " at step " +
      std::to_string(size.step) + ": the segment " + path.string() + " is whole and of this cut");
  return fresh;
}

}  // namespace persia
