// A map from id to a dense 32-bit index, by linear probing over entries of 8 bytes.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "persia/ids.h"

namespace persia {

class IdIndex {
 public:
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFF;

  explicit IdIndex(std::size_t expected = 0);
  std::uint32_t find(std::uint64_t id) const { return slots_[slot_of(id, mix64(id))].index; }
  // The index of `id`, and true if it is new; a new id gets the index size().
  std::pair<std::uint32_t, bool> insert(std::uint64_t id) {
    const std::uint64_t hash = mix64(id);
    std::size_t at = slot_of(id, hash);
    if (slots_[at].index != kAbsent) return {slots_[at].index, false};
    if (ids_.size() >= slots_.size() / 8 * 7) {
      grow();
      at = slot_of(id, hash);
    }
    const auto index = static_cast<std::uint32_t>(ids_.size());
    ids_.push_back(id);
    slots_[at] = {static_cast<std::uint32_t>(hash), index};
    return {index, true};
  }
  void prefetch(std::uint64_t id) const { __builtin_prefetch(&slots_[mix64(id) >> shift_], 1); }
  // Empty, and with room for `expected` ids; keeps its memory.
  void clear(std::size_t expected = 0);
  std::size_t size() const { return ids_.size(); }
  std::size_t bytes() const {
    return slots_.capacity() * sizeof(Slot) + ids_.capacity() * sizeof(std::uint64_t);
  }
  std::span<const std::uint64_t> ids() const { return ids_; }  // by index

  template <typename Visitor>
  void for_each(Visitor&& visit) const {
    for (std::uint32_t index = 0; index < ids_.size(); ++index) visit(ids_[index], index);
  }

 private:
  struct Slot {
    std::uint32_t tag = 0;  // of the id's hash: another id has the same one once in 2^32
    std::uint32_t index = kAbsent;
  };
  // The top bits of mix64, because its low bits choose the server: they are alike in all ids of one.
  std::size_t slot_of(std::uint64_t id, std::uint64_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    const auto tag = static_cast<std::uint32_t>(hash);
    std::size_t at = hash >> shift_;
    while (slots_[at].index != kAbsent && (slots_[at].tag != tag || ids_[slots_[at].index] != id)) {
      at = (at + 1) & mask;
    }
    return at;
  }
  void grow();
  void resize(unsigned log2_slots);

  std::vector<Slot> slots_;
  std::vector<std::uint64_t> ids_;
  unsigned shift_ = 0;
};

}  // namespace persia
