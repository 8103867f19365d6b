// From ids to row numbers: open addressing with linear probing, 16 bytes per entry, at most 3/4 full.
//
// An entry's home is the upper half of mix64(id) * slots, so any number of slots will do, and homes keep
// the order of the hashes: growing by a quarter reads and writes both arrays from front to back.
#pragma once

#include <cstdint>
#include <span>

#include "persia/huge_memory.h"
#include "persia/ids.h"

namespace persia {

class RowIndex {
 public:
  struct Entry {
    std::uint64_t id;
    std::uint32_t row_plus_1;  // 0 if the entry is free: so that fresh memory is an empty index
    std::uint32_t last_used;
    std::uint32_t row() const { return row_plus_1 - 1; }
    bool is_free() const { return row_plus_1 == 0; }
  };
  static constexpr std::uint32_t kMaxRows = 0xFFFFFFFE;

  // `most` rows at the most: then the index does not grow beyond what they need.
  RowIndex(std::uint64_t expected, std::uint64_t most);

  Entry* home(std::uint64_t id) const {
    // mix64's low bits choose the server, and are alike in all ids of one; its upper bits are not.
    const auto product = static_cast<unsigned __int128>(mix64(id)) * slots_;
    return entries() + static_cast<std::size_t>(product >> 64);
  }
  static void prefetch(const Entry* entry) { __builtin_prefetch(entry, 1); }
  // nullptr if there is none.
  Entry* find(std::uint64_t id) const { return find_from(home(id), id); }
  Entry* find_from(Entry* at, std::uint64_t id) const {
    while (!at->is_free()) {
      if (at->id == id) return at;
      if (++at == end_) at = entries();
    }
    return nullptr;
  }
  // `id` must be absent. True if entries have moved to other memory. Throws std::bad_alloc,
  // std::length_error.
  bool make_room();
  void insert(std::uint64_t id, std::uint32_t row, std::uint32_t last_used);
  // Moves entries behind it forward: pointers to entries may then point to others.
  void erase(Entry* entry);

  std::size_t size() const { return size_; }
  std::size_t bytes() const { return memory_.bytes(); }
  std::span<Entry> slots() const { return {entries(), slots_}; }

 private:
  Entry* entries() const { return reinterpret_cast<Entry*>(memory_.data()); }
  HugeMemory allocate(std::uint64_t slots);

  std::uint64_t most_slots_;
  std::size_t size_ = 0;
  std::size_t limit_ = 0;
  std::uint64_t slots_ = 0;
  Entry* end_ = nullptr;
  HugeMemory memory_;
};

}  // namespace persia
