#include "persia/admission.h"

#include "persia/ids.h"

namespace persia {
namespace {

constexpr std::uint64_t kSalt = 0xADA17710ADA17710ULL;  // unlike what initial rows and servers are chosen by

}  // namespace

bool Admission::decide(std::uint64_t id) {
  if (spec_.kind == AdmissionKind::kProbability) {
    const double fraction = static_cast<double>(mix64(mix64(id ^ kSalt) ^ mix64(seed_)) >> 11) * 0x1p-53;
    return fraction < spec_.probability;
  }
  if (spec_.count <= 1) return true;
  if (seen_.size() == kMaxSeen && seen_.find(id) == IdIndex::kAbsent) {
    seen_.clear();
    sightings_.clear();
  }
  const auto [at, is_new] = seen_.insert(id);
  if (is_new) sightings_.push_back(0);
  // An admitted id keeps its place: if its row is evicted, the next sighting creates it anew.
  if (static_cast<double>(sightings_[at]) < spec_.count) ++sightings_[at];
  return static_cast<double>(sightings_[at]) >= spec_.count;
}

}  // namespace persia
