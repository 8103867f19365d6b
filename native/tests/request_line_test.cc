#include "persia/request_line.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <thread>

#include "check.h"

namespace persia {
namespace {

constexpr std::chrono::seconds kTimeout{30};

// Answers every request with its payload, in order, but none before `needed` have been sent, and of server
// `silent` the request with number `lost` never.
class Echo final : public ClientTransport {
 public:
  explicit Echo(std::size_t needed = 1, std::size_t lost = 0) : needed_(needed), lost_(lost) {}
  std::uint32_t servers() const override { return 2; }

  void send(std::uint32_t server, Channel, Bytes frame) override {
    const std::lock_guard lock(mutex_);
    sent_ += server == 0 ? 1 : 0;
    frames_[server].push_back(std::move(frame));
    most_ = std::max({most_, frames_[0].size(), frames_[1].size()});
    changed_.notify_all();
  }

  std::optional<Bytes> receive(std::uint32_t server, Channel, Deadline deadline) override {
    std::unique_lock lock(mutex_);
    const auto there = [&] { return sent_ >= needed_ && !frames_[server].empty(); };
    if (!changed_.wait_until(lock, deadline, there)) return std::nullopt;
    begun_.push_back(deadline - kTimeout);
    if (server == 1 && ++received_ == lost_) return std::nullopt;
    Bytes frame = std::move(frames_[server].front());
    frames_[server].pop_front();
    FrameHeader header = parse_frame(frame).header;
    header.type = MessageType::kOk;
    seal_frame(header, frame);
    ended_.push_back(Clock::now());
    return frame;
  }

  std::size_t most_under_way() const { return most_; }
  // When the time limit of each receive() began, and when each of them ended.
  const std::vector<Clock::time_point>& begun() const { return begun_; }
  const std::vector<Clock::time_point>& ended() const { return ended_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t needed_;
  std::size_t lost_;
  std::size_t sent_ = 0;
  std::size_t received_ = 0;
  std::size_t most_ = 0;
  std::array<std::deque<Bytes>, 2> frames_;
  std::vector<Clock::time_point> begun_;
  std::vector<Clock::time_point> ended_;
};

std::vector<std::optional<Bytes>> numbered(std::size_t number) {
  const Bytes payload(number % 50 + 1, std::byte{static_cast<std::uint8_t>(number)});
  return {drafted(payload), drafted(payload)};
}

bool answers(const std::vector<Reply>& replies, std::size_t number) {
  const Bytes payload(number % 50 + 1, std::byte{static_cast<std::uint8_t>(number)});
  return replies.size() == 2 && std::ranges::all_of(replies, [&](const Reply& reply) {
           return !reply.error && std::ranges::equal(reply.payload, payload);
         });
}

// What it threw.
template <typename Call>
std::string thrown(Call call) {
  try {
    call();
  } catch (const TransportError& error) {
    return error.what();
  }
  return "nothing";
}

}  // namespace

TEST(requests_are_under_way_at_once_and_collected_in_any_order) {
  Echo transport(3);
  RequestLine line(transport, Channel::kLookup, 0, 3);
  std::vector<std::shared_ptr<PostedRequest>> posted;
  for (std::size_t number = 0; number < 3; ++number)
    posted.push_back(line.post(MessageType::kLookup, numbered(number), kTimeout));
  for (const std::size_t number : {2, 0, 1}) CHECK(answers(line.collect(*posted[number]), number));
}

TEST(no_more_requests_are_under_way_than_may_be) {
  Echo transport;
  RequestLine line(transport, Channel::kLookup, 0, 3);
  std::vector<std::shared_ptr<PostedRequest>> posted;
  for (std::size_t number = 0; number < 20; ++number)
    posted.push_back(line.post(MessageType::kLookup, numbered(number), kTimeout));
  CHECK(transport.most_under_way() == 3);
  for (std::size_t number = 0; number < 20; ++number) CHECK(answers(line.collect(*posted[number]), number));
}

TEST(a_request_that_nobody_collects_leaves_its_replies_to_nobody) {
  Echo transport;
  RequestLine line(transport, Channel::kLookup, 0, 3);
  line.post(MessageType::kLookup, numbered(1), kTimeout);
  CHECK(answers(line.collect(*line.post(MessageType::kLookup, numbered(2), kTimeout)), 2));
}

TEST(a_missing_answer_fails_its_request_and_all_behind_it) {
  Echo transport(1, 2);
  RequestLine line(transport, Channel::kLookup, 0, 3);
  std::vector<std::shared_ptr<PostedRequest>> posted;
  for (std::size_t number = 0; number < 3; ++number)
    posted.push_back(line.post(MessageType::kLookup, numbered(number), kTimeout));
  const std::string earlier = "LOOKUP: an earlier request of this worker got no answer";
  CHECK(thrown([&] { line.collect(*posted[2]); }) == earlier);
  CHECK(thrown([&] { line.collect(*posted[1]); }) == "server rank 1: LOOKUP: no answer within 30 s");
  CHECK(answers(line.collect(*posted[0]), 0));
  CHECK(thrown([&] { line.post(MessageType::kLookup, numbered(3), kTimeout); }) == earlier);
}

TEST(the_time_limit_of_a_request_begins_when_it_is_the_oldest) {
  Echo transport;
  RequestLine line(transport, Channel::kUpdate, 0, 2);
  const auto first = line.post(MessageType::kUpdate, numbered(1), kTimeout);
  const auto second = line.post(MessageType::kUpdate, numbered(2), kTimeout);
  line.collect(*second);
  // Of each request there are two replies, by server.
  CHECK(transport.begun()[2] >= transport.ended()[1]);
  CHECK(transport.begun()[2] == transport.begun()[3]);
}

TEST(one_thread_posts_while_another_collects) {
  constexpr std::size_t kRequests = 2000;
  Echo transport;
  RequestLine line(transport, Channel::kLookup, 0, 4);
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<PostedRequest>> posted;
  std::size_t right = 0;
  std::jthread collecting([&] {
    for (std::size_t number = 0; number < kRequests; ++number) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return !posted.empty(); });
      const auto request = std::move(posted.front());
      posted.pop_front();
      lock.unlock();
      right += answers(line.collect(*request), number) ? 1 : 0;
    }
  });
  for (std::size_t number = 0; number < kRequests; ++number) {
    auto request = line.post(MessageType::kLookup, numbered(number), kTimeout);
    const std::lock_guard lock(mutex);
    posted.push_back(std::move(request));
    changed.notify_all();
  }
  collecting.join();
  CHECK(right == kRequests);
  CHECK(transport.most_under_way() <= 4);
}

}  // namespace persia
