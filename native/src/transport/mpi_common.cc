#include "mpi_common.h"

#include <algorithm>

#include "persia/mpi_transport.h"

namespace persia {
namespace mpi {

void check(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(result, text, &length);
  throw TransportError(std::string(call) + " failed: " + std::string(text, static_cast<std::size_t>(length)));
}

Sending::Sending(Bytes frame, int rank, int tag) : frame_(std::make_unique<Bytes>(std::move(frame))) {
  for (std::size_t at = 0; at < frame_->size(); at += kChunkBytes) {
    const std::size_t size = std::min(kChunkBytes, frame_->size() - at);
    MPI_Request& request = requests_.emplace_back(MPI_REQUEST_NULL);
    check(
        MPI_Isend(frame_->data() + at, static_cast<int>(size), MPI_BYTE, rank, tag, MPI_COMM_WORLD, &request),
        "MPI_Isend");
  }
}

Sending::~Sending() {
  if (!requests_.empty()) static_cast<void>(frame_.release());
}

bool Sending::done() {
  if (requests_.empty()) return true;
  int done = 0;
  check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE),
        "MPI_Testall");
  if (done != 0) requests_.clear();
  return done != 0;
}

bool is_chunk(const MPI_Status& status) {
  int count = 0;
  check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
  // MPI gives a negative count for what it cannot count.
  return count >= 0 && static_cast<std::size_t>(count) <= kChunkBytes;
}

Receiving::Receiving(MPI_Message message, const MPI_Status& status)
    : source_(status.MPI_SOURCE), tag_(status.MPI_TAG) {
  if (!is_chunk(status)) throw TransportError("a message has more than the 64 MiB of a chunk");
  int count = 0;
  check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
  chunk_ = std::make_unique<Bytes>(static_cast<std::size_t>(count));
  check(MPI_Imrecv(chunk_->data(), count, MPI_BYTE, &message, &request_), "MPI_Imrecv");
}

Receiving::~Receiving() {
  if (request_ != MPI_REQUEST_NULL) static_cast<void>(chunk_.release());
}

bool Receiving::done() {
  int done = 0;
  check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test");
  return done != 0;
}

bool Assembly::add(Bytes chunk) {
  const bool last = chunk.size() < kChunkBytes;
  const bool first = received_ == 0;
  received_ += chunk.size();
  if (first) {
    try {
      claimed_ = claimed_size(chunk);
    } catch (const RequestError&) {
      frame_ = std::move(chunk);
      return true;
    }
    if (!too_large()) frame_ = std::move(chunk);
  } else if (!too_large()) {
    const std::uint64_t size = frame_.size() + chunk.size();
    // Grows by doubling, but never beyond what the frame needs.
    if (size > frame_.capacity()) frame_.reserve(std::max(size, std::min(2 * size, claimed_)));
    frame_.insert(frame_.end(), chunk.begin(), chunk.end());
  }
  return last || received_ >= claimed_;
}

}  // namespace mpi

bool ensure_mpi() {
  int initialised = 0;
  int provided = MPI_THREAD_SINGLE;
  mpi::check(MPI_Initialized(&initialised), "MPI_Initialized");
  if (initialised != 0) {
    mpi::check(MPI_Query_thread(&provided), "MPI_Query_thread");
  } else {
    mpi::check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  }
  if (provided != MPI_THREAD_MULTIPLE) {
    throw TransportError(
        "MPI was initialised without MPI_THREAD_MULTIPLE: lookups and updates run on two threads");
  }
  if (initialised == 0)
    mpi::check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return initialised == 0;
}

std::uint32_t mpi_rank() {
  int rank = 0;
  mpi::check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  return static_cast<std::uint32_t>(rank);
}

void abort_job(int code) {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

void finalize_mpi() {
  mpi::check(MPI_Finalize(), "MPI_Finalize");
}

}  // namespace persia
