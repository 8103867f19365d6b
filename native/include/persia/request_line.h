// The requests of a worker that are under way on one channel.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "persia/frame.h"
#include "persia/transport.h"

namespace persia {

// What a server has answered.
struct Reply {
  Bytes frame;
  std::span<const std::byte> payload;
  std::optional<std::string> error;  // that names server and operation, if it refused
};

// A request to some servers, from its sending to the collecting of their replies.
class PostedRequest {
 private:
  friend class RequestLine;
  MessageType type_ = MessageType::kError;
  std::uint64_t sequence_ = 0;
  std::chrono::duration<double> timeout_{};
  Clock::time_point sent_;
  std::vector<bool> asked_;  // by server
  bool done_ = false;        // the replies are there, or a failure
  std::vector<Reply> replies_;
  std::optional<std::string> failure_;
};

// Requests are answered in the order they were posted in, so one that waits for its replies takes those of
// earlier ones first. Any thread may post and any may collect: a thread that collects holds up none that
// posts, as long as there is room. Throws TransportError.
class RequestLine {
 public:
  // At most `limit` requests are under way at once.
  RequestLine(ClientTransport& transport, Channel channel, std::uint32_t trainer, std::size_t limit)
      : transport_(transport), channel_(channel), trainer_(trainer), limit_(limit) {}

  // Sends the draft frames[s] to server s (none: nothing). Where as many as may be are under way, it first
  // waits for the replies to the oldest. The time limit of a request begins when it is the oldest.
  std::shared_ptr<PostedRequest> post(MessageType type, std::vector<std::optional<Bytes>> frames,
                                      std::chrono::duration<double> timeout);
  // Waits for the replies, by server. To be called once for a request.
  std::vector<Reply> collect(PostedRequest& request);

 private:
  bool full();
  void make_room();
  void receive_oldest();
  void receive(PostedRequest& request, Deadline deadline);
  void fail(const std::string& why);

  ClientTransport& transport_;
  Channel channel_;
  std::uint32_t trainer_;
  std::size_t limit_;
  // Taken in this order.
  std::mutex sending_;    // guards sequence_, and that frames leave in order
  std::mutex receiving_;  // guards what is in the requests that are under way
  std::mutex state_;      // guards what follows; never held while waiting
  std::uint64_t sequence_ = 0;
  std::deque<std::shared_ptr<PostedRequest>> under_way_;
  Clock::time_point last_answered_;
  bool broken_ = false;  // an answer is missing: what comes next could be taken for it
};

}  // namespace persia
