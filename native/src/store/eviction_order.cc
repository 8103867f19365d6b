#include "persia/eviction_order.h"

#include <algorithm>

namespace persia {
namespace {

constexpr std::size_t kShare = 32;  // of the rows, one in so many is found by a scan
constexpr std::size_t kAhead = 8;

}  // namespace

RowIndex::Entry* EvictionOrder::oldest(const RowIndex& index) {
  for (;;) {
    const bool from_late = !late_.empty() && (next_ == scanned_.size() || late_.top() < scanned_[next_]);
    if (!from_late && next_ == scanned_.size()) {
      scan(index);
      continue;
    }
    if (next_ + kAhead < scanned_.size()) RowIndex::prefetch(index.home(scanned_[next_ + kAhead].second));
    const Key key = from_late ? late_.top() : scanned_[next_];
    RowIndex::Entry* entry = index.find(key.second);
    // The key stays in front until its row is gone or has another.
    if (entry != nullptr && entry->last_used == key.first) return entry;
    if (from_late) {
      late_.pop();
    } else {
      ++next_;
    }
  }
}

void EvictionOrder::scan(const RowIndex& index) {
  const std::size_t wanted = index.size() / kShare + 1;
  scanned_.clear();
  scanned_.reserve(2 * wanted);
  next_ = 0;
  Key limit{0xFFFFFFFF, ~std::uint64_t{0}};
  // Keeps the smallest ones of what it has seen; when the room is full, drops the larger half.
  const auto keep_smallest = [&] {
    if (scanned_.size() <= wanted) return;
    const auto last = scanned_.begin() + static_cast<std::ptrdiff_t>(wanted - 1);
    std::nth_element(scanned_.begin(), last, scanned_.end());
    limit = *last;
    scanned_.resize(wanted);
  };
  for (const RowIndex::Entry& entry : index.slots()) {
    if (entry.is_free()) continue;
    const Key key{entry.last_used, entry.id};
    if (key > limit) continue;
    if (scanned_.size() == 2 * wanted) keep_smallest();
    if (key <= limit) scanned_.push_back(key);
  }
  keep_smallest();
  std::sort(scanned_.begin(), scanned_.end());
  late_ = {};
  bound_ = scanned_.back();
  has_bound_ = true;
}

void EvictionOrder::add_late(Key key) {
  if (key <= bound_) late_.push(key);
}

void EvictionOrder::clear() {
  scanned_.clear();
  next_ = 0;
  late_ = {};
  has_bound_ = false;
}

}  // namespace persia
