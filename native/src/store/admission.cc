#include "persia/admission.h"

#include <algorithm>
#include <numeric>

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

Sightings Admission::sightings() const {
  const std::span<const std::uint64_t> ids = seen_.ids();
  std::vector<std::uint32_t> order(ids.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return ids[a] < ids[b]; });
  Sightings seen;
  seen.ids.reserve(order.size());
  seen.counts.reserve(order.size());
  for (const std::uint32_t at : order) {
    seen.ids.push_back(ids[at]);
    seen.counts.push_back(sightings_[at]);
  }
  return seen;
}

void Admission::remember(const Sightings& seen) {
  seen_.clear();
  sightings_.clear();
  if (spec_.kind != AdmissionKind::kSightings || seen.ids.size() > kMaxSeen) return;
  for (const std::uint64_t id : seen.ids) seen_.insert(id);
  sightings_ = seen.counts;
}

}  // namespace persia
