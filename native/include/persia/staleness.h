// The staleness bound of the hybrid algorithm, as a server sees it.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

namespace persia {

// Per trainer, the training batches that were looked up and neither updated nor discarded yet.
class StalenessTracker {
 public:
  StalenessTracker(std::uint32_t trainers, std::uint32_t bound);
  // Throws RequestError(kBatchOrder, kStalenessExceeded) if the batch may not be looked up now.
  void check_lookup(std::uint32_t trainer, std::uint64_t batch) const;
  void looked_up(std::uint32_t trainer, std::uint64_t batch);
  // Throws RequestError(kNotOutstanding).
  void check_outstanding(std::uint32_t trainer, std::uint64_t batch) const;
  // Whether the trainer can still give the batch back: it is outstanding, or not looked up yet.
  bool may_come(std::uint32_t trainer, std::uint64_t batch) const;
  // Also counts the outstanding batches, this one included, into the histogram.
  void updated(std::uint32_t trainer, std::uint64_t batch);
  void discarded(std::uint32_t trainer, std::uint64_t batch);
  bool any_outstanding() const;
  // histogram()[n] updates were applied while n batches of their trainer were outstanding.
  const std::vector<std::uint64_t>& histogram() const { return histogram_; }
  std::uint32_t max() const;

 private:
  struct Trainer {
    std::set<std::uint64_t> outstanding;
    std::optional<std::uint64_t> last;
  };
  std::uint32_t bound_;
  std::vector<Trainer> trainers_;
  std::vector<std::uint64_t> histogram_;
};

}  // namespace persia
