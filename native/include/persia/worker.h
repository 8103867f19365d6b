// The embedding worker: turns batches of ids into pooled rows, and gradients into updates of rows.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "persia/batch_plan.h"
#include "persia/messages.h"
#include "persia/request_line.h"
#include "persia/transport.h"

namespace persia {

struct WorkerOptions {
  std::vector<TableSpec> tables;
  std::vector<FeatureSpec> features;
  std::uint32_t trainer = 0;
  std::uint32_t trainers = 1;
  std::uint32_t staleness = 1;
  bool combine = false;
  std::uint64_t seed = 0;
  WeightType wire_values = WeightType::kFloat32;  // in which rows and gradients travel
  std::chrono::duration<double> timeout{60};
};

// Memory for floats, kept for as long as somebody holds it.
struct Buffer {
  std::shared_ptr<float[]> data;
  std::size_t floats = 0;
};

// One looked-up batch. The buffers are what the caller reads; the plan is what update() needs.
struct LookedUp {
  std::uint64_t batch = 0;
  bool training = false;
  std::uint64_t unique_ids = 0;
  std::uint64_t missing_ids = 0;
  std::uint64_t truncated_ids = 0;  // that did not fit into their sequence
  BatchPlan plan;
  std::vector<Buffer> buffers;      // per table: its features, one after the other
  std::vector<std::size_t> starts;  // per feature, in the buffer of its table
  std::vector<FeatureSpec> features;
  std::vector<std::uint32_t> dims;     // per feature
  std::atomic<bool> returned = false;  // updated or discarded

  // [rows, dim] of a feature, of a sequence [rows, length, dim].
  std::span<float> pooled(std::size_t feature) const {
    const FeatureSpec& spec = features[feature];
    return {buffers[spec.table].data.get() + starts[feature], plan.rows * spec.width(dims[feature])};
  }
};

// A lookup whose rows have been asked for; to be finished once.
struct PendingLookup {
  std::shared_ptr<LookedUp> lookup;
  std::shared_ptr<PostedRequest> request;  // none when it is finished
};

// An update or a discard that has been sent; to be finished once.
struct PendingReturn {
  std::shared_ptr<PostedRequest> request;  // none when it is finished
};

// Of what is begun and not finished, at most `staleness` requests are under way per channel: another one
// first waits for the replies to the oldest. Servers work on the requests of a channel in the order in which
// they were begun; they may be finished in any order, and by other threads. Lookups and updates do not wait
// for each other.
//
// Throws std::invalid_argument, TransportError or ServerError.
class Worker {
 public:
  Worker(WorkerOptions options, std::unique_ptr<ClientTransport> transport);

  void configure();
  // Asks for the rows. Writes into `buffers` if there are any, each of at least buffer_floats(), else into
  // memory of its own.
  PendingLookup begin_lookup(std::uint64_t batch, std::span<const FeatureIds> features, bool training,
                             std::vector<Buffer> buffers = {});
  // Waits for the rows, and pools them.
  std::shared_ptr<LookedUp> finish(PendingLookup& pending);
  std::shared_ptr<LookedUp> lookup(std::uint64_t batch, std::span<const FeatureIds> features, bool training,
                                   std::vector<Buffer> buffers = {});
  // What the features of each table take for so many samples.
  std::vector<std::size_t> buffer_floats(std::size_t rows) const;
  // Sends the gradients, which are then no longer needed. gradients[f] points to as many floats as pooled(f)
  // has. One factor of the learning rate per table, or none: then all are 1.
  PendingReturn begin_update(LookedUp& lookup, std::span<const float* const> gradients, float scale,
                             std::span<const double> learning_rate_factors = {});
  PendingReturn begin_discard(LookedUp& lookup);
  // Waits until all servers have acknowledged it.
  void finish(PendingReturn& pending);
  void update(LookedUp& lookup, std::span<const float* const> gradients, float scale,
              std::span<const double> learning_rate_factors = {});
  void discard(LookedUp& lookup);
  std::vector<SaveReply> save(const std::string& directory);
  // A save on a snapshot: servers go on at once. If one of them refuses, the others give theirs up.
  void begin_save(const std::string& directory, SaveKind kind, std::uint64_t cut);
  // Nothing until all servers are done. If one has failed, the others give theirs up.
  std::optional<std::vector<SaveReply>> finish_save();
  void give_up_save();
  std::vector<LoadReply> load(const std::vector<std::string>& paths);
  void advance_day(std::uint32_t day);
  std::vector<StatsReply> stats();
  void shutdown();

  std::uint32_t servers() const { return transport_->servers(); }
  const WorkerOptions& options() const { return options_; }

 private:
  RequestLine& line(Channel channel) { return lines_[static_cast<std::size_t>(channel)]; }
  // Sends the draft frames[s] to server s (none: nothing) and waits for all replies.
  std::vector<Reply> exchange(Channel channel, MessageType type, std::vector<std::optional<Bytes>> frames,
                              std::chrono::duration<double> timeout);
  std::vector<Reply> request_all(Channel channel, MessageType type, const Bytes& payload,
                                 std::chrono::duration<double> timeout);
  static void require_ok(const std::vector<Reply>& replies);
  template <typename Payload>
  static Payload decode(const Reply& reply, MessageType type, std::size_t server);
  template <typename Payload>
  static std::vector<Payload> decode_all(const std::vector<Reply>& replies, MessageType type);
  void place(LookedUp& lookup, std::vector<Buffer> buffers) const;
  void take_return(LookedUp& lookup) const;
  void check_gradients(const BatchPlan& plan, std::span<const float* const> gradients) const;
  void give_up_unless_ok(const std::vector<Reply>& replies);
  void give_back_partial(std::uint64_t batch, const std::vector<Reply>& replies);

  WorkerOptions options_;
  std::unique_ptr<ClientTransport> transport_;
  std::array<RequestLine, kChannels> lines_;
};

}  // namespace persia
