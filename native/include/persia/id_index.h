// A map from id to a dense 32-bit index, by linear probing.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace persia {

class IdIndex {
 public:
  static constexpr std::uint32_t kAbsent = 0xFFFFFFFF;

  explicit IdIndex(std::size_t expected = 0);
  std::uint32_t find(std::uint64_t id) const;
  // The index of `id`, and true if it is new; a new id gets the index size().
  std::pair<std::uint32_t, bool> insert(std::uint64_t id);
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return slots_.capacity() * sizeof(Slot); }

  template <typename Visitor>
  void for_each(Visitor&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.index != kAbsent) visit(slot.id, slot.index);
    }
  }

 private:
  struct Slot {
    std::uint64_t id = 0;
    std::uint32_t index = kAbsent;
  };
  std::size_t slot_of(std::uint64_t id) const;
  void resize(unsigned log2_slots);

  std::vector<Slot> slots_;
  unsigned shift_ = 0;
  std::size_t size_ = 0;
};

}  // namespace persia
