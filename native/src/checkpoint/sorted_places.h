// The rows of a table in order of their ids.
#pragma once

#include <vector>

#include "persia/store.h"
#include "persia/table_spec.h"
#include "persia/thread_team.h"

namespace persia {

// Of all rows, or of those that the last cut has set apart. 16 bytes per row; twice that on the way. Without
// a team, the calling thread does all.
std::vector<EmbeddingStore::Place> sorted_places(const EmbeddingStore& store, const TableSpec& table,
                                                 bool changed, ThreadTeam* team);

}  // namespace persia
