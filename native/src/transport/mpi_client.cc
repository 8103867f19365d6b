#include <array>
#include <atomic>
#include <list>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "mpi_common.h"
#include "persia/mpi_transport.h"

namespace persia {
namespace {

class MpiClient final : public ClientTransport {
 public:
  MpiClient(std::uint32_t servers, std::uint32_t number, std::uint32_t under_way)
      : first_tag_(mpi::kWorkerTags * static_cast<int>(number)), under_way_(under_way), lines_(servers) {
    if (number >= kMaxWorkersPerRank) {
      throw std::invalid_argument("number must be below " + std::to_string(kMaxWorkersPerRank));
    }
    int size = 0;
    mpi::check(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
    if (static_cast<std::uint32_t>(size) <= servers) {
      throw TransportError("the job has " + std::to_string(size) + " ranks, too few for " +
                           std::to_string(servers) + " servers and a trainer");
    }
    if (mpi_rank() < servers) {
      throw TransportError("rank " + std::to_string(mpi_rank()) +
                           " is the rank of a server, not of a trainer");
    }
  }

  std::uint32_t servers() const override { return static_cast<std::uint32_t>(lines_.size()); }

  void send(std::uint32_t server, Channel channel, Bytes frame) override {
    Line& to = line(server, channel);
    if (to.under_way.fetch_add(1) >= under_way_) {
      to.under_way.fetch_sub(1);
      throw TransportError(kTooManyUnderWay);
    }
    const std::lock_guard lock(to.mutex);
    to.sending.emplace_back(std::move(frame), static_cast<int>(server), tag(mpi::kRequestTag, channel));
  }

  std::optional<Bytes> receive(std::uint32_t server, Channel channel, Deadline deadline) override {
    Line& from = line(server, channel);
    mpi::Assembly assembly(kHeaderBytes + kMaxPayload);
    std::optional<mpi::Receiving> receiving;
    mpi::Backoff backoff;
    while (Clock::now() < deadline) {
      {
        const std::lock_guard lock(from.mutex);
        from.sending.remove_if([](mpi::Sending& each) { return each.done(); });
      }
      if (!receiving) {
        int found = 0;
        MPI_Message message = MPI_MESSAGE_NULL;
        MPI_Status status;
        mpi::check(MPI_Improbe(static_cast<int>(server), tag(mpi::kReplyTag, channel), MPI_COMM_WORLD, &found,
                               &message, &status),
                   "MPI_Improbe");
        if (found != 0) receiving.emplace(message, status);
      }
      if (receiving && receiving->done()) {
        backoff.reset();
        if (assembly.add(receiving->take())) {
          from.under_way.fetch_sub(1);
          return assembly.take();
        }
        receiving.reset();
      } else {
        backoff.pause();
      }
    }
    return std::nullopt;
  }

 private:
  struct Line {
    std::atomic<std::uint32_t> under_way = 0;  // from send() to the receive() that gets the reply
    std::mutex mutex;                          // guards what follows
    std::list<mpi::Sending> sending;
  };

  int tag(int base, Channel channel) const { return base + first_tag_ + static_cast<int>(channel); }
  Line& line(std::uint32_t server, Channel channel) {
    return lines_[server][static_cast<std::size_t>(channel)];
  }

  int first_tag_;
  std::uint32_t under_way_;  // at most, of a line
  // By server and channel.
  std::vector<std::array<Line, kChannels>> lines_;
};

}  // namespace

std::unique_ptr<ClientTransport> make_mpi_client(std::uint32_t servers, std::uint32_t number,
                                                 std::uint32_t under_way) {
  return std::make_unique<MpiClient>(servers, number, under_way);
}

}  // namespace persia
