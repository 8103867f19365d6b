#include "persia/staleness.h"

#include <algorithm>
#include <string>

#include "persia/error.h"

namespace persia {

StalenessTracker::StalenessTracker(std::uint32_t trainers, std::uint32_t bound)
    : bound_(bound), trainers_(trainers), histogram_(bound + 1) {}

void StalenessTracker::check_lookup(std::uint32_t trainer, std::uint64_t batch) const {
  const Trainer& state = trainers_[trainer];
  if (state.last && batch <= *state.last) {
    throw RequestError(ErrorCode::kBatchOrder, "batch " + std::to_string(batch) + " of trainer " +
                                                   std::to_string(trainer) + " comes after batch " +
                                                   std::to_string(*state.last));
  }
  if (state.outstanding.size() >= bound_) {
    throw RequestError(ErrorCode::kStalenessExceeded,
                       "batch " + std::to_string(batch) + " would be outstanding batch " +
                           std::to_string(state.outstanding.size() + 1) + " of trainer " +
                           std::to_string(trainer) + "; the staleness bound is " + std::to_string(bound_));
  }
}

void StalenessTracker::looked_up(std::uint32_t trainer, std::uint64_t batch) {
  trainers_[trainer].outstanding.insert(batch);
  trainers_[trainer].last = batch;
}

void StalenessTracker::check_outstanding(std::uint32_t trainer, std::uint64_t batch) const {
  if (!trainers_[trainer].outstanding.contains(batch)) {
    throw RequestError(ErrorCode::kNotOutstanding,
                       "batch " + std::to_string(batch) + " of trainer " + std::to_string(trainer) +
                           " was not looked up, or is updated or discarded already");
  }
}

bool StalenessTracker::may_come(std::uint32_t trainer, std::uint64_t batch) const {
  const Trainer& state = trainers_[trainer];
  return state.outstanding.contains(batch) || !state.last || *state.last < batch;
}

void StalenessTracker::updated(std::uint32_t trainer, std::uint64_t batch) {
  const std::size_t outstanding = trainers_[trainer].outstanding.size();
  if (outstanding < 1 || outstanding > bound_) {
    throw RequestError(ErrorCode::kInternal,
                       "the staleness bound was broken: " + std::to_string(outstanding));
  }
  ++histogram_[outstanding];
  trainers_[trainer].outstanding.erase(batch);
}

void StalenessTracker::discarded(std::uint32_t trainer, std::uint64_t batch) {
  trainers_[trainer].outstanding.erase(batch);
}

bool StalenessTracker::any_outstanding() const {
  return std::any_of(trainers_.begin(), trainers_.end(),
                     [](const Trainer& t) { return !t.outstanding.empty(); });
}

std::uint32_t StalenessTracker::max() const {
  for (std::size_t n = histogram_.size(); n-- > 0;) {
    if (histogram_[n] > 0) return static_cast<std::uint32_t>(n);
  }
  return 0;
}

}  // namespace persia
