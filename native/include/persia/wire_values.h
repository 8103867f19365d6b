// Rows as they travel: in float32, or rounded to one of the 16-bit types; docs/formats/wire.md, "Values".
#pragma once

#include <cstdint>
#include <span>

#include "persia/codec.h"
#include "persia/table_spec.h"

namespace persia {

// Of one row, its scale included.
std::uint64_t wire_row_bytes(WeightType values, std::uint32_t dim);

// `rows` [n, dim] as `values`.
void write_rows(Writer& writer, WeightType values, std::uint32_t dim, std::span<const float> rows);

// [rows, dim]: of float32 a view of what is read, where it is aligned. Throws RequestError(kMalformed) where
// the bytes end too early, or are not what write_rows() makes of any rows.
Floats read_rows(Reader& reader, WeightType values, std::uint64_t rows, std::uint32_t dim);

}  // namespace persia
