#include "persia/id_index.h"

#include <bit>
#include <stdexcept>

namespace persia {
namespace {

constexpr unsigned kMinLog2 = 4;

unsigned log2_slots_for(std::size_t expected) {
  unsigned log2 = kMinLog2;
  while ((std::size_t{1} << log2) / 8 * 7 < expected) ++log2;
  return log2;
}

}  // namespace

IdIndex::IdIndex(std::size_t expected) {
  clear(expected);
}

void IdIndex::clear(std::size_t expected) {
  ids_.clear();
  resize(log2_slots_for(expected));
}

void IdIndex::grow() {
  if (ids_.size() >= kAbsent) throw std::length_error("more than 2^32 - 1 ids in one index");
  resize(static_cast<unsigned>(std::countr_zero(slots_.size())) + 1);
}

void IdIndex::resize(unsigned log2_slots) {
  slots_.assign(std::size_t{1} << log2_slots, Slot{});
  shift_ = 64 - log2_slots;
  const std::size_t mask = slots_.size() - 1;
  for (std::uint32_t index = 0; index < ids_.size(); ++index) {
    const std::uint64_t hash = mix64(ids_[index]);
    std::size_t at = hash >> shift_;
    while (slots_[at].index != kAbsent) at = (at + 1) & mask;
    slots_[at] = {static_cast<std::uint32_t>(hash), index};
  }
}

}  // namespace persia
