// Frames over MPI_COMM_WORLD: ranks 0..servers-1 are the servers.
#pragma once

#include <memory>

#include "persia/transport.h"

namespace persia {

// Initialises MPI with MPI_THREAD_MULTIPLE unless it is initialised already; true if this call did it.
// Throws TransportError if threads are not supported.
bool ensure_mpi();

std::uint32_t mpi_rank();

std::unique_ptr<ClientTransport> make_mpi_client(std::uint32_t servers);
std::unique_ptr<ServerTransport> make_mpi_server();

// Ends all ranks of the job. Does not return.
[[noreturn]] void abort_job(int code);
// Leaves MPI; must be the last call.
void finalize_mpi();

}  // namespace persia
