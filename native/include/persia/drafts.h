// The two payloads that carry rows, laid out before the rows are there: they are written where they are sent
// from, rather than copied to it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "persia/frame.h"

namespace persia {

struct RowsDraft {
  Bytes frame;                         // all of the payload but the rows; no header yet
  std::vector<std::span<float>> rows;  // of each table [rows, dim], not filled
};

struct LookupShape {
  std::uint32_t table = 0;
  std::uint32_t dim = 0;
  std::uint64_t rows = 0;
};
// Of a LOOKUP reply in which no row is missing. Tables ascend.
RowsDraft draft_lookup_reply(std::span<const LookupShape> tables);

struct UpdateShape {
  std::uint32_t table = 0;
  std::uint32_t dim = 0;
  double learning_rate_factor = 1;
  std::span<const std::uint64_t> ids;
};
// Of an UPDATE. Tables ascend.
RowsDraft draft_update(std::uint64_t batch, std::span<const UpdateShape> tables);

}  // namespace persia
