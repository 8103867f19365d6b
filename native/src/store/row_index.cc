#include "persia/row_index.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace persia {
namespace {

constexpr std::uint64_t kMinBuckets = 16;
constexpr std::uint64_t kSmallBuckets = 1 << 14;  // below, memory matters less than time

// One entry for every 3/4 of a row, and one more: there is always a bucket that is not full, at which a
// search ends.
std::uint64_t buckets_for(std::uint64_t rows) {
  return std::max(kMinBuckets, (rows + rows / 3 + 1) / RowIndex::kBucket + 1);
}

}  // namespace

RowIndex::RowIndex(std::uint64_t expected, std::uint64_t most)
    : most_buckets_(buckets_for(std::min<std::uint64_t>(most, kMaxRows))) {
  allocate(std::min(buckets_for(expected), most_buckets_));
}

// Returns the memory used before, which is given up only when there is other memory.
HugeMemory RowIndex::allocate(std::uint64_t buckets) {
  HugeMemory fresh(buckets * sizeof(Bucket));
  std::swap(fresh, memory_);
  buckets_ = buckets;
  limit_ = buckets * kBucket / 4 * 3;
  end_ = this->buckets() + buckets;
  return fresh;
}

void RowIndex::expect(std::uint64_t rows) {
  const std::uint64_t wanted = std::min(buckets_for(std::min<std::uint64_t>(rows, kMaxRows)), most_buckets_);
  if (size_ == 0 && wanted > buckets_) allocate(wanted);
}

void RowIndex::make_room() {
  if (size_ >= kMaxRows) throw std::length_error("more than 2^32 - 2 rows in one table of one server");
  // At its most it is as full as it was made to be: buckets_for() leaves room for all rows and a free entry.
  if (size_ < limit_ || buckets_ == most_buckets_) return;
  const std::span<Entry> old = slots();
  const std::uint64_t grown = buckets_ < kSmallBuckets ? buckets_ * 2 : buckets_ + buckets_ / 4;
  const HugeMemory old_memory = allocate(std::min(grown, most_buckets_));
  size_ = 0;
  for (const Entry& entry : old) {
    if (!entry.is_free()) insert(entry.id, entry.row(), entry.last_used);
  }
}

void RowIndex::insert(std::uint64_t id, std::uint32_t row, std::uint32_t last_used) {
  Bucket* bucket = home(id);
  while (bucket->is_full()) bucket = next(bucket);
  Entry* at = bucket->entries;
  while (!at->is_free()) ++at;
  *at = {id, row + 1, last_used};
  ++size_;
}

// An entry behind `empty`, which has room now, that would have been put there; nullptr if there is none.
RowIndex::Entry* RowIndex::settler(const Bucket* empty, Bucket* from) const {
  const auto distance = [this](const Bucket* start, const Bucket* stop) {
    return stop >= start ? static_cast<std::size_t>(stop - start)
                         : static_cast<std::size_t>(stop - start + static_cast<std::ptrdiff_t>(buckets_));
  };
  for (Entry& entry : from->entries) {
    if (!entry.is_free() && distance(home(entry.id), from) >= distance(empty, from)) return &entry;
  }
  return nullptr;
}

void RowIndex::erase(Entry* entry) {
  Bucket* bucket = buckets() + (entry - buckets()->entries) / static_cast<std::ptrdiff_t>(kBucket);
  for (;;) {
    const bool was_full = bucket->is_full();
    Entry* last = bucket->entries + kBucket - 1;
    while (last->is_free()) --last;
    *entry = *last;
    *last = {};
    if (!was_full) break;
    // Others may have passed the full bucket by.
    Entry* settling = nullptr;
    Bucket* from = bucket;
    do {
      from = next(from);
      settling = settler(bucket, from);
    } while (settling == nullptr && from->is_full());
    if (settling == nullptr) break;
    *last = *settling;
    entry = settling;
    bucket = from;
  }
  --size_;
}

}  // namespace persia
