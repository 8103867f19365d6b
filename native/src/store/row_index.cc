#include "persia/row_index.h"

#include <algorithm>
#include <stdexcept>

namespace persia {
namespace {

constexpr std::uint64_t kMinSlots = 64;
constexpr std::uint64_t kSmallSlots = 1 << 16;  // below, memory matters less than time

// 4/3, and one more slot: there is always a free one, at which a search ends.
std::uint64_t slots_for(std::uint64_t rows) {
  return std::max(kMinSlots, rows + rows / 3 + 2);
}

}  // namespace

RowIndex::RowIndex(std::uint64_t expected, std::uint64_t most)
    : most_slots_(slots_for(std::min<std::uint64_t>(most, kMaxRows))) {
  allocate(std::min(slots_for(expected), most_slots_));
}

// Returns the memory used before, which is given up only when there is other memory.
HugeMemory RowIndex::allocate(std::uint64_t slots) {
  HugeMemory fresh(slots * sizeof(Entry));
  std::swap(fresh, memory_);
  slots_ = slots;
  limit_ = slots / 4 * 3;
  end_ = entries() + slots;
  return fresh;
}

bool RowIndex::make_room() {
  if (size_ >= kMaxRows) throw std::length_error("more than 2^32 - 2 rows in one table of one server");
  // At its most it is as full as it was made to be: slots_for() leaves room for all rows and a free slot.
  if (size_ < limit_ || slots_ == most_slots_) return false;
  const std::span<Entry> old = slots();
  const std::uint64_t grown = slots_ < kSmallSlots ? slots_ * 2 : slots_ + slots_ / 4;
  const HugeMemory old_memory = allocate(std::min(grown, most_slots_));
  size_ = 0;
  for (const Entry& entry : old) {
    if (!entry.is_free()) insert(entry.id, entry.row(), entry.last_used);
  }
  return true;
}

void RowIndex::insert(std::uint64_t id, std::uint32_t row, std::uint32_t last_used) {
  Entry* at = home(id);
  while (!at->is_free()) {
    if (++at == end_) at = entries();
  }
  *at = {id, row + 1, last_used};
  ++size_;
}

void RowIndex::erase(Entry* hole) {
  const auto distance = [this](const Entry* from, const Entry* to) {
    return to >= from ? static_cast<std::size_t>(to - from)
                      : static_cast<std::size_t>(to - from + static_cast<std::ptrdiff_t>(slots_));
  };
  Entry* at = hole;
  for (;;) {
    if (++at == end_) at = entries();
    if (at->is_free()) break;
    // An entry may not come to lie before its home.
    if (distance(home(at->id), at) >= distance(hole, at)) {
      *hole = *at;
      hole = at;
    }
  }
  *hole = {};
  --size_;
}

}  // namespace persia
