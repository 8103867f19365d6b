// Which ids get a row: always, from the n-th sighting on, or by a hash of the id.
#pragma once

#include <cstdint>
#include <vector>

#include "persia/id_index.h"
#include "persia/table_spec.h"

namespace persia {

// Ids that were looked up for training and had no row then, ascending, and how often that was.
struct Sightings {
  std::vector<std::uint64_t> ids;
  std::vector<std::uint8_t> counts;
};

class Admission {
 public:
  Admission(const AdmissionSpec& spec, std::uint64_t seed) : spec_(spec), seed_(seed) {}
  // Whether an id without a row, looked up for training, is to get one now.
  bool admits(std::uint64_t id) { return spec_.kind == AdmissionKind::kAlways || decide(id); }
  Sightings sightings() const;
  // Instead of what was seen; nothing of it, if it is more than can be remembered or is not asked for.
  void remember(const Sightings& seen);

 private:
  bool decide(std::uint64_t id);

  // So many ids are remembered that were seen and not admitted; one more, and all of them begin anew.
  static constexpr std::size_t kMaxSeen = std::size_t{1} << 20;

  AdmissionSpec spec_;
  std::uint64_t seed_;
  IdIndex seen_;
  std::vector<std::uint8_t> sightings_;  // by the id's index in seen_
};

}  // namespace persia
