#include <algorithm>
#include <optional>
#include <vector>

#include "mpi_common.h"
#include "persia/mpi_transport.h"

namespace persia {
namespace {

constexpr std::uint64_t kLeastFrameBytes = std::uint64_t{1} << 20;
// The last line of a worker is for all messages whose tag is of no channel.
constexpr std::size_t kLines = kChannels + 1;

class MpiServer final : public MpiServerTransport {
 public:
  MpiServer(std::uint64_t max_buffered_bytes, std::uint32_t workers_per_rank) {
    int size = 0;
    mpi::check(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
    ranks_ = static_cast<std::size_t>(size);
    workers_ = ranks_ * workers_per_rank;
    const std::uint64_t shares = std::max<std::uint64_t>(ranks_ - 1, 1) * workers_per_rank * kChannels;
    max_frame_bytes_ = std::min(max_buffered_bytes / shares, kHeaderBytes + kMaxPayload);
    if (max_frame_bytes_ < kLeastFrameBytes) {
      throw TransportError("--max-buffered-bytes must be at least " +
                           std::to_string(shares * kLeastFrameBytes) + " in a job of " +
                           std::to_string(ranks_) + " ranks with " + std::to_string(workers_per_rank) +
                           " workers each");
    }
    buffered_.limit_bytes = max_buffered_bytes;
    lines_.resize(workers_ * kLines);
    int* most = nullptr;
    int known = 0;
    mpi::check(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &most, &known), "MPI_Comm_get_attr");
    if (known != 0) largest_tag_ = *most;
    const std::int64_t last_tag =
        tag_of(mpi::kReplyTag, {static_cast<std::int32_t>(workers_) - 1, kChannels - 1});
    if (last_tag > largest_tag_) {
      throw TransportError("--workers-per-rank " + std::to_string(workers_per_rank) +
                           ": this MPI has no tag above " + std::to_string(largest_tag_));
    }
  }

  std::uint64_t max_frame_bytes() const override { return max_frame_bytes_; }
  Buffered buffered() const override { return buffered_; }

  std::optional<Incoming> poll() override {
    finish_sending();
    std::optional<Incoming> request;
    if (!receiving_) request = match();
    if (receiving_ && receiving_->done()) {
      backoff_.reset();
      request = add_chunk(peer_of(receiving_->source(), receiving_->tag()));
      receiving_.reset();
    } else if (!request) {
      backoff_.pause();
    }
    if (request) line_of(request->peer).busy = true;
    return request;
  }

  void send(Outgoing reply) override {
    Line& line = line_of(reply.peer);
    const std::int64_t tag = tag_of(mpi::kReplyTag, reply.peer);
    if (tag > largest_tag_) {  // only where the request's tag was of no channel
      line.busy = line.closed;
      return;
    }
    count(line, reply.frame.size());
    line.sending.emplace(std::move(reply.frame), rank_of(reply.peer), static_cast<int>(tag));
    sending_.push_back(&line);
  }

  void flush(Deadline deadline) override {
    const mpi::Backoff backoff;
    while (!sending_.empty() && Clock::now() < deadline) {
      finish_sending();
      backoff.pause();
    }
  }

 private:
  // The requests of one worker on one channel, one at a time.
  struct Line {
    std::optional<mpi::Assembly> assembly;
    bool busy = false;    // from the end of a request to the end of its reply: nothing more is taken
    bool closed = false;  // then it stays busy: its next message is none that can be taken
    std::optional<mpi::Sending> sending;
    std::uint64_t bytes = 0;  // of assembly or sending
  };

  // To the server a worker is a rank of its own: the rank in MPI + ranks_ * its number there. A tag of no
  // channel is on the account of the first worker.
  Peer peer_of(int rank, int tag) const {
    const std::int64_t offset = std::int64_t{tag} - mpi::kRequestTag;
    const std::int64_t number = offset / mpi::kWorkerTags;
    const std::int64_t channel = offset % mpi::kWorkerTags;
    const std::int64_t peer = rank + static_cast<std::int64_t>(ranks_) * number;
    if (offset < 0 || channel >= static_cast<std::int64_t>(kChannels) ||
        peer >= static_cast<std::int64_t>(workers_)) {
      return {rank, static_cast<std::int32_t>(offset)};
    }
    return {static_cast<std::int32_t>(peer), static_cast<std::int32_t>(channel)};
  }
  int rank_of(Peer peer) const { return peer.rank % static_cast<int>(ranks_); }
  std::int64_t tag_of(int base, Peer peer) const {
    const std::int64_t number = peer.rank / static_cast<std::int32_t>(ranks_);
    return base + number * mpi::kWorkerTags + peer.channel;
  }

  static bool is_channel(std::int32_t channel) {
    return channel >= 0 && channel < static_cast<std::int32_t>(kChannels);
  }
  Line& line_of(Peer peer) {
    const std::size_t place = is_channel(peer.channel) ? static_cast<std::size_t>(peer.channel) : kChannels;
    return lines_[static_cast<std::size_t>(peer.rank) * kLines + place];
  }
  void count(Line& line, std::uint64_t bytes) {
    buffered_.bytes += bytes - line.bytes;
    buffered_.most_bytes = std::max(buffered_.most_bytes, buffered_.bytes);
    line.bytes = bytes;
  }

  void finish_sending() {
    std::erase_if(sending_, [this](Line* line) {
      if (!line->sending->done()) return false;
      line->sending.reset();
      line->busy = line->closed;
      count(*line, 0);
      return true;
    });
  }

  std::optional<Incoming> add_chunk(Peer peer) {
    if (!is_channel(peer.channel)) {
      const std::string what = "tag " + std::to_string(tag_of(mpi::kRequestTag, peer)) + " is of no channel";
      return Incoming{peer, {}, RequestError(ErrorCode::kMalformed, what)};
    }
    Line& line = line_of(peer);
    if (!line.assembly) line.assembly.emplace(max_frame_bytes_);
    if (!line.assembly->add(receiving_->take())) {
      count(line, line.assembly->bytes());
      return std::nullopt;
    }
    Incoming request{peer, line.assembly->take(), std::nullopt};
    if (line.assembly->too_large()) {
      request.refused.emplace(ErrorCode::kTooLarge, "a frame has at most " +
                                                        std::to_string(max_frame_bytes_) +
                                                        " bytes in this job; raise --max-buffered-bytes");
    }
    line.assembly.reset();
    count(line, 0);
    return request;
  }

  // Takes one message at a time, so that the chunks of a frame are put together in the order they were sent.
  // Returns what is refused without being taken.
  std::optional<Incoming> match() {
    MPI_Status status;
    if (!probe(MPI_ANY_SOURCE, MPI_ANY_TAG, status)) return std::nullopt;
    if (!line_of(peer_of(status.MPI_SOURCE, status.MPI_TAG)).busy) return take(status);
    // The message that came first has to wait, and MPI has no way to ask for any but it.
    for (std::size_t i = 0; i < workers_; ++i) {
      const std::size_t worker = (next_worker_ + i) % workers_;
      for (std::size_t channel = 0; channel < kChannels; ++channel) {
        if (lines_[worker * kLines + channel].busy) continue;
        const Peer peer{static_cast<std::int32_t>(worker), static_cast<std::int32_t>(channel)};
        if (!probe(rank_of(peer), static_cast<int>(tag_of(mpi::kRequestTag, peer)), status)) continue;
        next_worker_ = worker + 1;
        return take(status);
      }
    }
    return std::nullopt;
  }

  static bool probe(int source, int tag, MPI_Status& status) {
    int found = 0;
    mpi::check(MPI_Iprobe(source, tag, MPI_COMM_WORLD, &found, &status), "MPI_Iprobe");
    return found != 0;
  }

  std::optional<Incoming> take(MPI_Status& status) {
    const Peer peer = peer_of(status.MPI_SOURCE, status.MPI_TAG);
    if (!mpi::is_chunk(status)) {
      line_of(peer).closed = true;
      return Incoming{peer,
                      {},
                      RequestError(ErrorCode::kTooLarge,
                                   "a message has more than the 64 MiB of a "
                                   "chunk; this channel is now closed")};
    }
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    mpi::check(MPI_Improbe(status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, &found, &message, &status),
               "MPI_Improbe");
    if (found != 0) receiving_.emplace(message, status);
    return std::nullopt;
  }

  std::size_t ranks_ = 0;
  std::size_t workers_ = 0;  // that all ranks may have together
  std::uint64_t max_frame_bytes_ = 0;
  std::int64_t largest_tag_ = 32767;  // what every MPI allows
  Buffered buffered_;
  std::vector<Line> lines_;
  std::vector<Line*> sending_;
  std::optional<mpi::Receiving> receiving_;
  std::size_t next_worker_ = 0;
  mpi::Backoff backoff_;
};

}  // namespace

std::unique_ptr<MpiServerTransport> make_mpi_server(std::uint64_t max_buffered_bytes,
                                                    std::uint32_t workers_per_rank) {
  return std::make_unique<MpiServer>(max_buffered_bytes, workers_per_rank);
}

}  // namespace persia
