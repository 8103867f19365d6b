// What both sides of the MPI carrier share: tags, chunks, and waiting without burning a core.
#pragma once

#include <mpi.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "persia/transport.h"

namespace persia::mpi {

// + channel + kWorkerTags * number: two workers of one rank would else take each other's replies.
inline constexpr int kRequestTag = 7100;
inline constexpr int kReplyTag = 7200;
inline constexpr int kWorkerTags = 1000;
// A frame travels as messages of this size and a last, shorter or equal one: MPI counts are int.
inline constexpr std::size_t kChunkBytes = std::size_t{64} << 20;

void check(int result, const char* call);

// MPI's own blocking calls spin all the time; this spins as long as an answer is likely, then sleeps, and
// sleeps longer where nothing has come for a second (another stage of the job is at work).
class Backoff {
 public:
  void reset() { active_ = Clock::now(); }
  void pause() const {
    const auto idle = Clock::now() - active_;
    if (idle < std::chrono::microseconds(200)) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(idle < std::chrono::seconds(1) ? 100 : 1000));
    }
  }

 private:
  Clock::time_point active_ = Clock::now();
};

// A frame on its way out. MPI reads its bytes until done() is true.
class Sending {
 public:
  Sending(Bytes frame, int rank, int tag);
  Sending(Sending&&) noexcept = default;
  Sending& operator=(Sending&&) = delete;
  // Bytes that MPI may still read are left to it rather than freed.
  ~Sending();
  bool done();

 private:
  std::unique_ptr<Bytes> frame_;
  std::vector<MPI_Request> requests_;
};

// Whether the message that a probe has found may be received: Open MPI writes beyond the end of a buffer that
// is too small for a message, so a message is received whole or not at all.
bool is_chunk(const MPI_Status& status);

// A message on its way in, matched already. MPI writes its bytes until done() is true.
class Receiving {
 public:
  Receiving(MPI_Message message, const MPI_Status& status);
  Receiving(const Receiving&) = delete;
  Receiving& operator=(const Receiving&) = delete;
  ~Receiving();  // as ~Sending
  bool done();
  Bytes take() { return std::move(*chunk_); }
  int source() const { return source_; }
  int tag() const { return tag_; }

 private:
  std::unique_ptr<Bytes> chunk_;
  MPI_Request request_ = MPI_REQUEST_NULL;
  int source_;
  int tag_;
};

// Puts chunks together. Bytes that are no frame count as complete: parsing them says what is wrong.
class Assembly {
 public:
  // Of a frame that claims more than `limit` bytes, nothing is kept.
  explicit Assembly(std::uint64_t limit) : limit_(limit) {}
  // True if the frame is complete with this chunk.
  bool add(Bytes chunk);
  Bytes take() { return std::move(frame_); }
  bool too_large() const { return claimed_ > limit_; }
  std::uint64_t bytes() const { return frame_.size(); }

 private:
  std::uint64_t limit_;
  std::uint64_t claimed_ = 0;
  std::uint64_t received_ = 0;
  Bytes frame_;
};

}  // namespace persia::mpi
