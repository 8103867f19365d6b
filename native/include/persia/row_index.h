// From ids to row numbers: buckets of four entries, one cache line each, at most 3/4 full.
//
// An id's home bucket is the upper half of mix64(id) * buckets, so any number of buckets will do, and homes
// keep the order of the hashes: growing by a quarter reads and writes both arrays from front to back. An id
// that finds its home full lies in the next bucket with room: a search ends at the first bucket that is not
// full. Seven of eight lie at home.
#pragma once

#include <bit>
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
  static constexpr std::size_t kBucket = 4;
  // Free entries are the last ones of their bucket.
  struct alignas(64) Bucket {
    Entry entries[kBucket];

    bool is_full() const { return !entries[kBucket - 1].is_free(); }
    // nullptr if it is not here. All four are compared: which one it is, no branch can predict.
    Entry* find(std::uint64_t id) {
      unsigned matches = 0;
      for (std::size_t i = 0; i < kBucket; ++i) matches |= static_cast<unsigned>(entries[i].id == id) << i;
      if (matches == 0) return nullptr;
      // The first one: behind an entry of id 0 there may be free ones.
      Entry* entry = &entries[std::countr_zero(matches)];
      return entry->is_free() ? nullptr : entry;
    }
  };
  static constexpr std::uint32_t kMaxRows = 0xFFFFFFFE;

  // `most` rows at the most: then the index does not grow beyond what they need.
  RowIndex(std::uint64_t expected, std::uint64_t most);

  Bucket* home(std::uint64_t id) const {
    // mix64's low bits choose the server, and are alike in all ids of one; its upper bits are not.
    const auto product = static_cast<unsigned __int128>(mix64(id)) * buckets_;
    return buckets() + static_cast<std::size_t>(product >> 64);
  }
  Bucket* next(Bucket* bucket) const { return ++bucket == end_ ? buckets() : bucket; }
  static void prefetch(const Bucket* bucket) { __builtin_prefetch(bucket, 1); }
  // nullptr if there is none.
  Entry* find(std::uint64_t id) const { return find_from(home(id), id); }
  Entry* find_from(Bucket* at, std::uint64_t id) const {
    for (;;) {
      Entry* entry = at->find(id);
      if (entry != nullptr || !at->is_full()) return entry;
      at = next(at);
    }
  }
  // Of an empty index: takes the memory for so many rows at once. Throws std::bad_alloc.
  void expect(std::uint64_t rows);
  // Before each insert(): may move all entries to other memory. Throws std::bad_alloc, std::length_error.
  void make_room();
  // `id` must be absent.
  void insert(std::uint64_t id, std::uint32_t row, std::uint32_t last_used);
  // Moves other entries to where there is room now: pointers to entries may then point to others.
  void erase(Entry* entry);

  std::size_t size() const { return size_; }
  std::size_t bytes() const { return memory_.bytes(); }
  std::span<Entry> slots() const { return {buckets()->entries, buckets_ * kBucket}; }

 private:
  Bucket* buckets() const { return reinterpret_cast<Bucket*>(memory_.data()); }
  HugeMemory allocate(std::uint64_t buckets);
  Entry* settler(const Bucket* empty, Bucket* from) const;

  std::uint64_t most_buckets_;
  std::size_t size_ = 0;
  std::size_t limit_ = 0;
  std::uint64_t buckets_ = 0;
  Bucket* end_ = nullptr;
  HugeMemory memory_;
};

}  // namespace persia
