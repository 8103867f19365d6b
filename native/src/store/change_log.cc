#include "persia/change_log.h"

#include <algorithm>
#include <utility>

namespace persia {

void ChangeLog::start(std::uint64_t rows) {
  on_ = true;
  touched_.assign(rows / 64 + 1, 0);
  fresh_.assign(rows / 64 + 1, 0);
  removed_.clear();
  cut_ = {};
}

void ChangeLog::create(std::uint32_t row) {
  if (!on_) return;
  if (row / 64 >= touched_.size()) {
    const std::size_t words = std::max<std::size_t>(row / 64 + 1, touched_.size() + touched_.size() / 4);
    touched_.resize(words, 0);
    fresh_.resize(words, 0);
  }
  set(touched_, row);
  set(fresh_, row);
}

void ChangeLog::remove(std::uint64_t id, std::uint32_t row) {
  if (on_ && !is_set(fresh_, row)) removed_.push_back(id);
}

void ChangeLog::cut() {
  Cut next{Bits(touched_.size(), 0), Bits(fresh_.size(), 0), {}};
  cut_ = {std::exchange(touched_, std::move(next.touched)), std::exchange(fresh_, std::move(next.fresh)),
          std::exchange(removed_, {})};
}

void ChangeLog::settle(bool written) {
  if (!written) {
    for (std::size_t i = 0; i < cut_.touched.size(); ++i) {
      touched_[i] |= cut_.touched[i];
      fresh_[i] |= cut_.fresh[i];
    }
    removed_.insert(removed_.end(), cut_.removed.begin(), cut_.removed.end());
  }
  cut_ = {};
}

std::uint64_t ChangeLog::bytes() const {
  const std::size_t words = touched_.capacity() + fresh_.capacity() + removed_.capacity() +
                            cut_.touched.capacity() + cut_.fresh.capacity() + cut_.removed.capacity();
  return words * sizeof(std::uint64_t);
}

}  // namespace persia
