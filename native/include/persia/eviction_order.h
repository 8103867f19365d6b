// Which row is evicted next: exactly the least recently used one, with no list through all rows.
//
// A row's key is (last_used, id): the clock of the last training lookup that touched it, then the id. One
// scan of the index finds the 1/32 of all rows with the smallest keys. They are handed out in order; a row
// that was touched since is passed over, because its key has changed. Clocks only grow, so between scans no
// other row can get in front, but for those that add() is told of.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "persia/row_index.h"

namespace persia {

class EvictionOrder {
 public:
  using Key = std::pair<std::uint32_t, std::uint64_t>;  // last_used, id

  // The entry with the smallest key of all of `index`, which must not be empty.
  RowIndex::Entry* oldest(const RowIndex& index);
  // To be told of every row that is new or has a new key.
  void add(std::uint32_t last_used, std::uint64_t id) {
    if (last_used <= bound_.first && has_bound_) add_late({last_used, id});
  }
  void clear();
  std::size_t bytes() const { return (scanned_.capacity() + late_.size()) * sizeof(Key); }

 private:
  void scan(const RowIndex& index);
  void add_late(Key key);

  std::vector<Key> scanned_;  // ascending from next_
  std::size_t next_ = 0;
  std::priority_queue<Key, std::vector<Key>, std::greater<>> late_;
  Key bound_{};  // every row with a key up to this one is in scanned_ or late_
  bool has_bound_ = false;
};

}  // namespace persia
