#include "persia/request_line.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>

namespace persia {
namespace {

// "2", "0.25", "1e+06"
std::string seconds(std::chrono::duration<double> time) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", time.count());
  return text.data();
}

std::string of_server(std::uint32_t server, MessageType type) {
  return "server rank " + std::to_string(server) + ": " + std::string(name_of(type)) + ": ";
}

std::string after_a_failure(MessageType type) {
  return std::string(name_of(type)) + ": an earlier request of this worker got no answer";
}

}  // namespace

std::shared_ptr<PostedRequest> RequestLine::post(MessageType type, std::vector<std::optional<Bytes>> frames,
                                                 std::chrono::duration<double> timeout) {
  const std::lock_guard sending(sending_);
  make_room();
  {
    const std::lock_guard state(state_);
    if (broken_) throw TransportError(after_a_failure(type));
  }
  auto request = std::make_shared<PostedRequest>();
  request->type_ = type;
  request->sequence_ = ++sequence_;
  request->timeout_ = timeout;
  request->sent_ = Clock::now();
  request->asked_.resize(frames.size());
  const FrameHeader header{type, trainer_, static_cast<std::uint32_t>(channel_), sequence_};
  std::uint32_t server = 0;
  try {
    for (server = 0; server < frames.size(); ++server) {
      if (!frames[server]) continue;
      seal_frame(header, *frames[server]);
      transport_.send(server, channel_, std::move(*frames[server]));
      request->asked_[server] = true;
    }
  } catch (const std::exception& error) {
    const std::lock_guard state(state_);
    broken_ = true;
    throw TransportError(of_server(server, type) + error.what());
  }
  const std::lock_guard state(state_);
  if (broken_) throw TransportError(after_a_failure(type));
  under_way_.push_back(request);
  return request;
}

std::vector<Reply> RequestLine::collect(PostedRequest& request) {
  const std::lock_guard receiving(receiving_);
  while (!request.done_) receive_oldest();
  if (request.failure_) throw TransportError(*request.failure_);
  return std::move(request.replies_);
}

bool RequestLine::full() {
  const std::lock_guard state(state_);
  return under_way_.size() >= limit_;
}

void RequestLine::make_room() {
  while (full()) {
    const std::lock_guard receiving(receiving_);
    if (full()) receive_oldest();
  }
}

void RequestLine::receive_oldest() {
  std::shared_ptr<PostedRequest> oldest;
  Deadline deadline;
  {
    const std::lock_guard state(state_);
    oldest = under_way_.front();
    deadline = std::max(oldest->sent_, last_answered_) +
               std::chrono::duration_cast<Clock::duration>(oldest->timeout_);
  }
  try {
    receive(*oldest, deadline);
  } catch (const TransportError& error) {
    fail(error.what());
    return;
  }
  const std::lock_guard state(state_);
  oldest->done_ = true;
  under_way_.pop_front();
  last_answered_ = Clock::now();
}

void RequestLine::receive(PostedRequest& request, Deadline deadline) {
  request.replies_.resize(request.asked_.size());
  std::uint32_t server = 0;
  try {
    for (server = 0; server < request.asked_.size(); ++server) {
      if (!request.asked_[server]) continue;
      Reply& reply = request.replies_[server];
      std::optional<Bytes> frame = transport_.receive(server, channel_, deadline);
      if (!frame) throw TransportError("no answer within " + seconds(request.timeout_) + " s");
      reply.frame = std::move(*frame);
      const Frame parsed = parse_frame(reply.frame);
      const bool is_error = parsed.header.type == MessageType::kError;
      // A server that could not read the request's header answers with sequence 0.
      const bool matches =
          parsed.header.sequence == request.sequence_ || (is_error && parsed.header.sequence == 0);
      if (!matches || (!is_error && parsed.header.type != MessageType::kOk)) {
        throw TransportError("the reply is for another request");
      }
      reply.payload = parsed.payload;
      if (is_error) {
        const ErrorReply error = parse_error(parsed.payload);
        reply.error = of_server(server, request.type_) +
                      std::string(name_of(static_cast<ErrorCode>(error.code))) + ": " + error.text;
      }
    }
  } catch (const std::exception& error) {
    throw TransportError(of_server(server, request.type_) + error.what());
  }
}

// The oldest request has failed for this reason, and with it all that are behind it.
void RequestLine::fail(const std::string& why) {
  const std::lock_guard state(state_);
  broken_ = true;
  for (const std::shared_ptr<PostedRequest>& request : under_way_) {
    request->failure_ = request == under_way_.front() ? why : after_a_failure(request->type_);
    request->done_ = true;
  }
  under_way_.clear();
}

}  // namespace persia
