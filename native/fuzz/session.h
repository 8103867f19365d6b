// A real server, and what must hold after every frame that it is given.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "persia/server.h"

namespace persia::fuzz {

class Session {
 public:
  Session() : server_(0) {}
  // Any bytes, that came on the channel of a carrier. Paths in a right SAVE or LOAD are confined to the
  // sandbox first.
  void deliver(Bytes bytes, std::uint32_t channel);
  // Framed with the last sequence number of (trainer, channel) + step. The type may be unknown.
  void request(MessageType type, std::uint32_t trainer, std::uint32_t channel, std::uint64_t step,
               std::span<const std::byte> payload);
  bool stopped() const { return server_.stopped(); }
  // Whether the last frame was answered OK, and with which payload.
  const std::optional<Bytes>& accepted() const { return accepted_; }

 private:
  using Counters = std::vector<std::pair<std::string, std::uint64_t>>;
  // A frame that waits for its reply.
  struct Asked {
    FrameHeader header;  // what the reply must repeat
    Bytes payload;
  };

  std::optional<Bytes> ask(MessageType type, const Bytes& payload);
  std::optional<Counters> counters();
  std::optional<Bytes> known_rows();
  // Until a save on a snapshot is done or has failed: so that an input always does the same.
  void settle_save(const BeginSaveRequest& request);
  bool receive(const Outgoing& reply);
  void accept(const Asked& asked, const Bytes& payload);
  void check_lookup(const LookupRequest& request, const LookupReply& reply) const;
  void check_bounds(const Counters& counters) const;
  void check_saved_part(const SaveReply& reply) const;

  Server server_;
  std::optional<ConfigureRequest> configured_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> last_sequence_;
  std::map<std::int32_t, Asked> waiting_;  // by rank of the peer: every frame has a rank of its own
  std::int32_t next_rank_ = 0;
  std::map<std::uint32_t, std::set<std::uint64_t>> known_ids_;  // by table, of training lookups
  // After the last frame. Asked for early, since what the session asks uses up sequence numbers.
  std::optional<Bytes> known_rows_;
  std::optional<Counters> before_;
  std::optional<Bytes> accepted_;
};

}  // namespace persia::fuzz
