// The order of the parts of a base and of the deltas after it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "part_reader.h"

namespace persia {

// Parts by cut, the base first; a part is named by its place.
using Chain = std::vector<std::vector<std::size_t>>;

// Throws RequestError (kPartMismatch) naming a part that does not belong to the others.
Chain chain_of(std::span<const PartReader> parts);

// Throws RequestError (kPartMismatch) unless all servers had counted the same lookups: clocks of rows in
// earlier parts could mean different times.
void require_one_clock(const PartReader& part, const TableSpec& table, std::span<const TableClock> clocks);

}  // namespace persia
