#include <list>
#include <map>
#include <optional>

#include "mpi_common.h"
#include "persia/mpi_transport.h"

namespace persia {
namespace {

class MpiServer final : public ServerTransport {
 public:
  std::optional<Incoming> poll() override {
    sending_.remove_if([](mpi::Sending& each) { return each.done(); });
    if (!receiving_) match();
    if (!receiving_ || !receiving_->done()) {
      backoff_.pause();
      return std::nullopt;
    }
    backoff_.reset();
    const Peer peer{receiving_->source(), receiving_->tag() - mpi::kRequestTag};
    mpi::Assembly& assembly = assemblies_[peer];
    const bool complete = assembly.add(receiving_->take());
    receiving_.reset();
    if (!complete) return std::nullopt;
    Incoming request{peer, assembly.take()};
    assemblies_.erase(peer);
    return request;
  }

  void send(Outgoing reply) override {
    sending_.emplace_back(std::move(reply.frame), reply.peer.rank, mpi::kReplyTag + reply.peer.channel);
  }

  void flush(Deadline deadline) override {
    const mpi::Backoff backoff;
    while (!sending_.empty() && Clock::now() < deadline) {
      sending_.remove_if([](mpi::Sending& each) { return each.done(); });
      backoff.pause();
    }
  }

 private:
  // One message at a time, so that the chunks of a frame are put together in the order they were sent.
  void match() {
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    mpi::check(MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &found, &message, &status),
               "MPI_Improbe");
    if (found != 0) receiving_.emplace(message, status);
  }

  std::list<mpi::Sending> sending_;
  std::optional<mpi::Receiving> receiving_;
  std::map<Peer, mpi::Assembly> assemblies_;
  mpi::Backoff backoff_;
};

}  // namespace

std::unique_ptr<ServerTransport> make_mpi_server() {
  return std::make_unique<MpiServer>();
}

}  // namespace persia
