#include "persia/delayed_transport.h"

#include <array>
#include <ctime>
#include <deque>
#include <latch>
#include <thread>

#include "check.h"

namespace persia {
namespace {

Bytes bytes(std::uint8_t value) {
  return Bytes(3, std::byte{value});
}

// Answers every request with itself. The lookup's reply comes once that of the update has been collected.
class Echo final : public ClientTransport {
 public:
  explicit Echo(std::latch* update_collected = nullptr) : update_collected_(update_collected) {}
  std::uint32_t servers() const override { return 2; }
  void send(std::uint32_t server, Channel channel, Bytes frame) override {
    frames_[server][static_cast<std::size_t>(channel)].push_back(std::move(frame));
  }
  std::optional<Bytes> receive(std::uint32_t server, Channel channel, Deadline) override {
    if (channel == Channel::kLookup && update_collected_ != nullptr) update_collected_->wait();
    std::deque<Bytes>& frames = frames_[server][static_cast<std::size_t>(channel)];
    Bytes oldest = std::move(frames.front());
    frames.pop_front();
    return oldest;
  }

 private:
  std::latch* update_collected_;
  std::array<std::array<std::deque<Bytes>, kChannels>, 2> frames_;
};

Deadline in(std::chrono::milliseconds time) {
  return Clock::now() + time;
}

double thread_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

TEST(a_reply_comes_unchanged_and_no_earlier_than_the_delay_without_burning_a_core) {
  constexpr std::chrono::milliseconds kDelay{200};
  const auto transport = delay_replies(std::make_unique<Echo>(), kDelay);
  CHECK(transport->servers() == 2);
  const auto start = Clock::now();
  const double before = thread_seconds();
  transport->send(0, Channel::kControl, bytes(1));
  transport->send(1, Channel::kControl, bytes(2));
  CHECK(transport->receive(1, Channel::kControl, in(std::chrono::hours(1))) == bytes(2));
  CHECK(Clock::now() - start >= kDelay);
  CHECK(transport->receive(0, Channel::kControl, in(std::chrono::hours(1))) == bytes(1));
  CHECK(thread_seconds() - before < 0.1);
}

TEST(each_of_several_requests_waits_for_its_own_delay_and_no_longer) {
  constexpr std::chrono::milliseconds kDelay{50};
  const auto transport = delay_replies(std::make_unique<Echo>(), kDelay);
  std::vector<Clock::time_point> before;
  std::vector<Clock::time_point> after;
  for (std::uint8_t number = 0; number < 5; ++number) {
    std::this_thread::sleep_for(std::chrono::milliseconds(number));
    before.push_back(Clock::now());
    transport->send(0, Channel::kLookup, bytes(number));
    after.push_back(Clock::now());
  }
  for (std::uint8_t number = 0; number < 5; ++number) {
    // A reply that became visible later than this would not come, however late it is now.
    CHECK(transport->receive(0, Channel::kLookup, after[number] + kDelay) == bytes(number));
    CHECK(Clock::now() >= before[number] + kDelay);
  }
}

TEST(a_reply_that_would_come_after_the_deadline_does_not_come) {
  const auto transport = delay_replies(std::make_unique<Echo>(), std::chrono::hours(1));
  transport->send(0, Channel::kLookup, bytes(1));
  CHECK(!transport->receive(0, Channel::kLookup, in(std::chrono::milliseconds(1))));
}

TEST(a_channel_that_waits_does_not_hold_up_another) {
  std::latch update_collected(1);
  const auto transport =
      delay_replies(std::make_unique<Echo>(&update_collected), std::chrono::milliseconds(1));
  transport->send(0, Channel::kLookup, bytes(1));
  std::optional<Bytes> found;
  std::jthread lookup([&] { found = transport->receive(0, Channel::kLookup, in(std::chrono::hours(1))); });
  transport->send(0, Channel::kUpdate, bytes(2));
  CHECK(transport->receive(0, Channel::kUpdate, in(std::chrono::hours(1))) == bytes(2));
  update_collected.count_down();
  lookup.join();
  CHECK(found == bytes(1));
}

TEST(no_delay_is_no_carrier_of_its_own) {
  auto echo = std::make_unique<Echo>();
  const ClientTransport* inner = echo.get();
  CHECK(delay_replies(std::move(echo), std::chrono::seconds(0)).get() == inner);
}

}  // namespace persia
