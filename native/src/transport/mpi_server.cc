#include <algorithm>
#include <optional>
#include <vector>

#include "mpi_common.h"
#include "persia/mpi_transport.h"

namespace persia {
namespace {

constexpr std::uint64_t kLeastFrameBytes = std::uint64_t{1} << 20;
// The last line of a rank is for all messages whose tag is of no channel.
constexpr std::size_t kLines = kChannels + 1;

class MpiServer final : public MpiServerTransport {
 public:
  explicit MpiServer(std::uint64_t max_buffered_bytes) {
    int size = 0;
    mpi::check(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
    ranks_ = static_cast<std::size_t>(size);
    const std::uint64_t shares = std::max<std::uint64_t>(ranks_ - 1, 1) * kChannels;
    max_frame_bytes_ = std::min(max_buffered_bytes / shares, kHeaderBytes + kMaxPayload);
    if (max_frame_bytes_ < kLeastFrameBytes) {
      throw TransportError("--max-buffered-bytes must be at least " +
                           std::to_string(shares * kLeastFrameBytes) + " in a job of " +
                           std::to_string(ranks_) + " ranks");
    }
    buffered_.limit_bytes = max_buffered_bytes;
    lines_.resize(ranks_ * kLines);
    int* most = nullptr;
    int known = 0;
    mpi::check(MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &most, &known), "MPI_Comm_get_attr");
    if (known != 0) largest_tag_ = *most;
  }

  std::uint64_t max_frame_bytes() const override { return max_frame_bytes_; }
  Buffered buffered() const override { return buffered_; }

  std::optional<Incoming> poll() override {
    finish_sending();
    std::optional<Incoming> request;
    if (!receiving_) request = match();
    if (receiving_ && receiving_->done()) {
      backoff_.reset();
      request = add_chunk({receiving_->source(), receiving_->tag() - mpi::kRequestTag});
      receiving_.reset();
    } else if (!request) {
      backoff_.pause();
    }
    if (request) line_of(request->peer).busy = true;
    return request;
  }

  void send(Outgoing reply) override {
    Line& line = line_of(reply.peer);
    const std::int64_t tag = std::int64_t{mpi::kReplyTag} + reply.peer.channel;
    if (tag > largest_tag_) {  // only where the request's tag was of no channel
      line.busy = line.closed;
      return;
    }
    count(line, reply.frame.size());
    line.sending.emplace(std::move(reply.frame), reply.peer.rank, static_cast<int>(tag));
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
  // The requests of one rank on one channel, one at a time.
  struct Line {
    std::optional<mpi::Assembly> assembly;
    bool busy = false;    // from the end of a request to the end of its reply: nothing more is taken
    bool closed = false;  // then it stays busy: its next message is none that can be taken
    std::optional<mpi::Sending> sending;
    std::uint64_t bytes = 0;  // of assembly or sending
  };

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
      const std::string what = "tag " + std::to_string(peer.channel + mpi::kRequestTag) + " is of no channel";
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
    const Peer first{status.MPI_SOURCE, status.MPI_TAG - mpi::kRequestTag};
    if (!line_of(first).busy) return take(status);
    // The message that came first has to wait, and MPI has no way to ask for any but it.
    for (std::size_t i = 0; i < ranks_; ++i) {
      const std::size_t rank = (next_rank_ + i) % ranks_;
      for (std::size_t channel = 0; channel < kChannels; ++channel) {
        if (lines_[rank * kLines + channel].busy) continue;
        const int tag = mpi::kRequestTag + static_cast<int>(channel);
        if (!probe(static_cast<int>(rank), tag, status)) continue;
        next_rank_ = rank + 1;
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
    const Peer peer{status.MPI_SOURCE, status.MPI_TAG - mpi::kRequestTag};
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
  std::uint64_t max_frame_bytes_ = 0;
  std::int64_t largest_tag_ = 32767;  // what every MPI allows
  Buffered buffered_;
  std::vector<Line> lines_;
  std::vector<Line*> sending_;
  std::optional<mpi::Receiving> receiving_;
  std::size_t next_rank_ = 0;
  mpi::Backoff backoff_;
};

}  // namespace

std::unique_ptr<MpiServerTransport> make_mpi_server(std::uint64_t max_buffered_bytes) {
  return std::make_unique<MpiServer>(max_buffered_bytes);
}

}  // namespace persia
