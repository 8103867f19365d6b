#include "persia/id_index.h"

#include <bit>
#include <stdexcept>

#include "persia/ids.h"

namespace persia {
namespace {

constexpr unsigned kMinLog2 = 4;

}  // namespace

IdIndex::IdIndex(std::size_t expected) {
  unsigned log2 = kMinLog2;
  while ((std::size_t{1} << log2) / 8 * 5 < expected) ++log2;
  resize(log2);
}

// The top bits of mix64, because its low bits choose the server: they are alike in all ids of one.
std::size_t IdIndex::slot_of(std::uint64_t id) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = mix64(id) >> shift_;
  while (slots_[at].index != kAbsent && slots_[at].id != id) at = (at + 1) & mask;
  return at;
}

std::uint32_t IdIndex::find(std::uint64_t id) const {
  return slots_[slot_of(id)].index;
}

std::pair<std::uint32_t, bool> IdIndex::insert(std::uint64_t id) {
  std::size_t at = slot_of(id);
  if (slots_[at].index != kAbsent) return {slots_[at].index, false};
  if (size_ >= kAbsent) throw std::length_error("more than 2^32 - 1 rows in one table of one server");
  if (size_ >= slots_.size() / 8 * 5) {
    resize(static_cast<unsigned>(std::countr_zero(slots_.size())) + 1);
    at = slot_of(id);
  }
  const auto index = static_cast<std::uint32_t>(size_++);
  slots_[at] = {id, index};
  return {index, true};
}

void IdIndex::resize(unsigned log2_slots) {
  std::vector<Slot> bigger(std::size_t{1} << log2_slots);
  bigger.swap(slots_);
  shift_ = 64 - log2_slots;
  for (const Slot& slot : bigger) {
    if (slot.index != kAbsent) slots_[slot_of(slot.id)] = slot;
  }
}

}  // namespace persia
