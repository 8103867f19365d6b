#include "persia/delayed_transport.h"

#include <algorithm>
#include <array>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace persia {
namespace {

class DelayedTransport final : public ClientTransport {
 public:
  DelayedTransport(std::unique_ptr<ClientTransport> inner, Clock::duration round_trip)
      : inner_(std::move(inner)), round_trip_(round_trip), lines_(inner_->servers()) {}

  std::uint32_t servers() const override { return inner_->servers(); }

  void send(std::uint32_t server, Channel channel, Bytes frame) override {
    Line& to = line(server, channel);
    const std::lock_guard lock(to.mutex);
    inner_->send(server, channel, std::move(frame));
    to.sent.push_back(Clock::now());
  }

  std::optional<Bytes> receive(std::uint32_t server, Channel channel, Deadline deadline) override {
    // The frames travel first: a carrier may need its client's thread for that.
    std::optional<Bytes> reply = inner_->receive(server, channel, deadline);
    if (!reply) return reply;
    const Clock::time_point visible = line(server, channel).take() + round_trip_;
    std::this_thread::sleep_until(std::min(visible, deadline));
    if (visible > deadline) reply.reset();
    return reply;
  }

 private:
  struct Line {
    std::mutex mutex;
    std::deque<Clock::time_point> sent;  // of each request under way

    Clock::time_point take() {
      const std::lock_guard lock(mutex);
      const Clock::time_point oldest = sent.front();
      sent.pop_front();
      return oldest;
    }
  };

  Line& line(std::uint32_t server, Channel channel) {
    return lines_[server][static_cast<std::size_t>(channel)];
  }

  std::unique_ptr<ClientTransport> inner_;
  Clock::duration round_trip_;
  std::vector<std::array<Line, kChannels>> lines_;  // by server and channel
};

}  // namespace

std::unique_ptr<ClientTransport> delay_replies(std::unique_ptr<ClientTransport> inner,
                                               std::chrono::duration<double> round_trip) {
  if (round_trip.count() == 0) return inner;
  return std::make_unique<DelayedTransport>(std::move(inner),
                                            std::chrono::duration_cast<Clock::duration>(round_trip));
}

}  // namespace persia
