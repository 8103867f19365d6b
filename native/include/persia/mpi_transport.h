// Frames over MPI_COMM_WORLD: ranks 0..servers-1 are the servers.
#pragma once

#include <memory>

#include "persia/transport.h"

namespace persia {

// Initialises MPI with MPI_THREAD_MULTIPLE unless it is initialised already; true if this call did it.
// Throws TransportError if threads are not supported.
bool ensure_mpi();

std::uint32_t mpi_rank();

// `number` tells the clients of one rank apart; the servers must allow so many (workers_per_rank). Of each
// server and channel, at most `under_way` requests at once.
std::unique_ptr<ClientTransport> make_mpi_client(std::uint32_t servers, std::uint32_t number = 0,
                                                 std::uint32_t under_way = 1);

inline constexpr std::uint64_t kDefaultMaxBufferedBytes = std::uint64_t{8} << 30;
inline constexpr std::uint32_t kMaxWorkersPerRank = 1024;

// Buffers at most `max_buffered_bytes`: each worker that another rank may have gets an equal share of them
// for each channel, the most that a frame, request or reply, may have. Throws TransportError if that is less
// than 1 MiB, or if MPI has no tags for so many workers.
class MpiServerTransport : public ServerTransport {
 public:
  virtual std::uint64_t max_frame_bytes() const = 0;
};
std::unique_ptr<MpiServerTransport> make_mpi_server(std::uint64_t max_buffered_bytes,
                                                    std::uint32_t workers_per_rank = 1);

// Ends all ranks of the job. Does not return.
[[noreturn]] void abort_job(int code);
// Leaves MPI; must be the last call.
void finalize_mpi();

}  // namespace persia
