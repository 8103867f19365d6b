// An embedding server: frames in, frames out. It knows nothing of the carrier. One thread calls it, and the
// tables are worked on by that thread and the helpers of its team.
#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "persia/background_save.h"
#include "persia/frame.h"
#include "persia/messages.h"
#include "persia/staleness.h"
#include "persia/table_segment.h"
#include "persia/table_set.h"
#include "persia/thread_team.h"

namespace persia {

// Where a reply goes: an address of the carrier.
struct Peer {
  std::int32_t rank = 0;
  std::int32_t channel = 0;
  auto operator<=>(const Peer&) const = default;
};

struct Outgoing {
  Peer peer;
  Bytes frame;
};

// What the carrier keeps of requests that are still coming in and of replies that are still going out.
struct Buffered {
  std::uint64_t bytes = 0;        // now
  std::uint64_t most_bytes = 0;   // at any time
  std::uint64_t limit_bytes = 0;  // 0: frames are limited in number only
};

struct ServerOptions {
  std::uint32_t threads = 1;
  std::uint64_t max_frame_bytes = kHeaderBytes + kMaxPayload;  // of a reply
  std::filesystem::path segments = {};                         // directory for its segment; empty: no segment
};

class Server {
 public:
  // Throws as ThreadTeam.
  explicit Server(std::uint32_t index, ServerOptions options = {})
      : index_(index), options_(std::move(options)), team_(options_.threads) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  // The replies that this frame brings about: none while an update that is combined waits for the other
  // trainers, several when it completes them. Never throws for what the frame holds: that is an ERROR reply.
  std::vector<Outgoing> handle(Peer peer, std::span<const std::byte> frame);
  // The reply to something that the carrier could not make a frame of; counted as that error.
  Outgoing refuse(Peer peer, const RequestError& error);
  bool stopped() const { return stopped_; }
  // What STATS is to say of the carrier.
  void set_buffered(const Buffered& buffered) { buffered_ = buffered; }

 private:
  struct Configured {
    ConfigureRequest request;
    TableSet tables;
    StalenessTracker staleness;
    std::uint64_t step = 0;  // updates applied
    std::uint64_t cut = 0;   // that changes are counted from; 0: none
  };
  struct SegmentCounts {
    std::uint64_t written = 0;
    std::uint64_t failed = 0;
    std::uint64_t attached = 0;
    std::uint64_t refused = 0;
  };
  // An UPDATE or DISCARD that waits for those of the other trainers: one step is made of all.
  struct Held {
    Peer peer;
    FrameHeader header;
    UpdateRequest update;
    bool discarded = false;
  };

  void admit(const FrameHeader& header);
  // answer() and lookup() return a draft of the reply's frame, the others payloads.
  Bytes answer(const FrameHeader& header, std::span<const std::byte> payload);
  Bytes configure(std::span<const std::byte> payload);
  Bytes lookup(const FrameHeader& header, std::span<const std::byte> payload);
  Bytes save(std::span<const std::byte> payload);
  Bytes begin_save(std::span<const std::byte> payload);
  Bytes finish_save(std::span<const std::byte> payload);
  std::optional<SaveReply> poll_save();
  void settle_cut(bool written);
  void say(const std::string& text) const;
  SegmentName segment_name(const ConfigureRequest& request, std::uint64_t part) const;
  void keep_segment(const Configured& state, const PartSize& part) const;
  void settle_segment();
  std::optional<TableSet> attached(const Configured& state, const std::vector<std::string>& paths,
                                   PartSize& size);
  void require_cut(const Configured& state);
  Bytes load(std::span<const std::byte> payload);
  Bytes advance_day(std::span<const std::byte> payload);
  StatsReply stats() const;
  std::vector<Outgoing> change(Peer peer, const FrameHeader& header, std::span<const std::byte> payload);
  void check_ids(std::uint32_t table, std::span<const std::uint64_t> ids) const;
  void check_update(const UpdateRequest& update) const;
  void apply(std::span<const UpdateRequest* const> updates);
  std::vector<Outgoing> hold(Held held);
  void check_completes(std::uint64_t batch, std::uint32_t trainer) const;
  std::vector<Outgoing> combine(const std::map<std::uint32_t, Held>& complete);
  Outgoing fail(Peer peer, const FrameHeader& header, ErrorCode code, const char* text);
  Configured& configured();
  const Configured& configured() const;

  void check_reply_size(std::uint64_t bytes) const;

  std::uint32_t index_;
  ServerOptions options_;
  Buffered buffered_;
  ThreadTeam team_;
  std::optional<Configured> configured_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> last_sequence_;  // by (trainer, channel)
  std::map<std::uint64_t, std::map<std::uint32_t, Held>> held_;                     // by batch and trainer
  std::map<MessageType, std::uint64_t> requests_;
  std::map<ErrorCode, std::uint64_t> errors_;
  std::unique_ptr<BackgroundSave> background_;  // the last one, also when it is done
  std::uint64_t written_cut_ = 0;               // that it has written
  std::uint64_t cut_under_way_ = 0;             // that it writes, until it is known whether it did
  SegmentCounts segments_;
  std::optional<std::uint64_t> segment_step_;  // of the segment that is being written
  bool stopped_ = false;
};

}  // namespace persia
