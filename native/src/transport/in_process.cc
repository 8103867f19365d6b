#include "persia/in_process.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace persia {
namespace {

template <typename T>
class Mailbox {
 public:
  void push(T item) {
    {
      const std::lock_guard lock(mutex_);
      items_.push_back(std::move(item));
    }
    changed_.notify_one();
  }
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
  }
  // Nothing if the deadline passes, or the box is closed and empty.
  std::optional<T> pop(Deadline deadline) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [this] { return closed_ || !items_.empty(); });
    if (items_.empty()) return std::nullopt;
    T item = std::move(items_.front());
    items_.pop_front();
    return item;
  }
  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  std::deque<T> take_all() {
    const std::lock_guard lock(mutex_);
    return std::exchange(items_, {});
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> items_;
  bool closed_ = false;
};

// What waits in the mailboxes of one server.
class Counter {
 public:
  void add(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    now_ += bytes;
    most_ = std::max(most_, now_);
  }
  void remove(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    now_ -= bytes;
  }
  Buffered value() const {
    const std::lock_guard lock(mutex_);
    return {now_, most_, 0};
  }

 private:
  mutable std::mutex mutex_;
  std::uint64_t now_ = 0;
  std::uint64_t most_ = 0;
};

// Of one client, one server and one channel.
struct Line {
  std::atomic<std::uint32_t> under_way = 0;  // from send() to the receive() that gets the reply
  Mailbox<Bytes> replies;
};

using Lines = std::vector<std::array<Line, kChannels>>;  // by server and channel

class Group;

class Client final : public ClientTransport {
 public:
  Client(std::shared_ptr<Group> group, std::int32_t number, std::uint32_t under_way,
         std::shared_ptr<Lines> lines)
      : group_(std::move(group)), number_(number), under_way_(under_way), lines_(std::move(lines)) {}
  ~Client() override;

  std::uint32_t servers() const override { return static_cast<std::uint32_t>(lines_->size()); }
  void send(std::uint32_t server, Channel channel, Bytes frame) override;
  std::optional<Bytes> receive(std::uint32_t server, Channel channel, Deadline deadline) override;

 private:
  Line& line(std::uint32_t server, Channel channel) {
    return (*lines_)[server][static_cast<std::size_t>(channel)];
  }

  std::shared_ptr<Group> group_;
  std::int32_t number_;
  std::uint32_t under_way_;  // at most, of a line
  std::shared_ptr<Lines> lines_;
};

class Group final : public InProcessGroup, public std::enable_shared_from_this<Group> {
 public:
  Group(std::uint32_t servers, std::uint32_t threads, const std::filesystem::path& segments = {})
      : threads_of_server_(threads), buffered_(servers), requests_(servers), ended_(servers) {
    for (std::uint32_t s = 0; s < servers; ++s)
      servers_.push_back(
          std::make_unique<Server>(s, ServerOptions{.threads = threads, .segments = segments}));
    for (std::uint32_t s = 0; s < servers; ++s) threads_.emplace_back([this, s] { run(s); });
  }
  ~Group() override {
    stop_ = true;
    for (auto& box : requests_) box.close();
    for (std::thread& thread : threads_) thread.join();
  }
  std::uint32_t threads_of_server() const { return threads_of_server_; }
  std::uint32_t servers() const { return static_cast<std::uint32_t>(requests_.size()); }
  std::unique_ptr<ClientTransport> connect(std::uint32_t under_way) override {
    auto lines = std::make_shared<Lines>(requests_.size());
    const std::lock_guard lock(mutex_);
    const std::int32_t number = next_client_++;
    clients_[number] = lines;
    for (std::size_t s = 0; s < ended_.size(); ++s) {
      if (ended_[s]) close_boxes((*lines)[s]);
    }
    return std::make_unique<Client>(shared_from_this(), number, under_way, std::move(lines));
  }
  void disconnect(std::int32_t client) {
    const std::lock_guard lock(mutex_);
    const auto found = clients_.find(client);
    for (std::size_t s = 0; s < found->second->size(); ++s) {
      for (Line& line : (*found->second)[s]) {
        for (const Bytes& reply : line.replies.take_all()) buffered_[s].remove(reply.size());
      }
    }
    clients_.erase(found);
  }
  void post(std::uint32_t server, Incoming request) {
    buffered_[server].add(request.frame.size());
    requests_[server].push(std::move(request));
  }
  void collected(std::uint32_t server, std::uint64_t bytes) { buffered_[server].remove(bytes); }

 private:
  class Side final : public ServerTransport {
   public:
    Side(Group& group, std::uint32_t index) : group_(group), index_(index) {}
    std::optional<Incoming> poll() override {
      auto request = group_.requests_[index_].pop(Clock::now() + std::chrono::seconds(1));
      if (request) group_.buffered_[index_].remove(request->frame.size());
      return request;
    }
    void send(Outgoing reply) override {
      const std::lock_guard lock(group_.mutex_);
      const auto client = group_.clients_.find(reply.peer.rank);
      if (client == group_.clients_.end()) return;
      group_.buffered_[index_].add(reply.frame.size());
      Line& line = (*client->second)[index_][static_cast<std::size_t>(reply.peer.channel)];
      line.replies.push(std::move(reply.frame));
    }
    void flush(Deadline) override {}
    Buffered buffered() const override { return group_.buffered_[index_].value(); }

   private:
    Group& group_;
    std::uint32_t index_;
  };

  static void close_boxes(std::array<Line, kChannels>& lines) {
    for (Line& line : lines) line.replies.close();
  }

  void run(std::uint32_t index) {
    Side side(*this, index);
    serve(*servers_[index], side, stop_);
    const std::lock_guard lock(mutex_);
    ended_[index] = true;
    for (auto& [number, lines] : clients_) close_boxes((*lines)[index]);
  }

  std::uint32_t threads_of_server_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::atomic<bool> stop_ = false;
  std::vector<Counter> buffered_;
  // Of each client and channel, as many requests as it may have under way.
  std::vector<Mailbox<Incoming>> requests_;
  std::mutex mutex_;  // guards the following three
  std::vector<bool> ended_;
  std::map<std::int32_t, std::shared_ptr<Lines>> clients_;
  std::int32_t next_client_ = 0;
  std::vector<std::thread> threads_;
};

Client::~Client() {
  group_->disconnect(number_);
}

void Client::send(std::uint32_t server, Channel channel, Bytes frame) {
  std::atomic<std::uint32_t>& under_way = line(server, channel).under_way;
  if (under_way.fetch_add(1) >= under_way_) {
    under_way.fetch_sub(1);
    throw TransportError(kTooManyUnderWay);
  }
  group_->post(server, {{number_, static_cast<std::int32_t>(channel)}, std::move(frame), std::nullopt});
}

std::optional<Bytes> Client::receive(std::uint32_t server, Channel channel, Deadline deadline) {
  Line& from = line(server, channel);
  std::optional<Bytes> reply = from.replies.pop(deadline);
  if (!reply && from.replies.closed()) throw TransportError("the server has ended");
  if (!reply) return reply;
  group_->collected(server, reply->size());
  from.under_way.fetch_sub(1);
  return reply;
}

}  // namespace

std::shared_ptr<InProcessGroup> InProcessGroup::create(std::uint32_t servers, std::uint32_t threads,
                                                       const std::filesystem::path& segments) {
  return std::make_shared<Group>(servers, threads, segments);
}

std::shared_ptr<InProcessGroup> InProcessGroup::open(const std::string& name, std::uint32_t servers,
                                                     std::uint32_t threads) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<Group>> groups;
  const std::lock_guard lock(mutex);
  std::shared_ptr<Group> group = groups[name].lock();
  if (!group) {
    group = std::make_shared<Group>(servers, threads);
    groups[name] = group;
  }
  if (group->servers() != servers || group->threads_of_server() != threads) {
    throw std::invalid_argument("in-process group " + name + " has " + std::to_string(group->servers()) +
                                " servers with " + std::to_string(group->threads_of_server()) +
                                " threads each");
  }
  return group;
}

}  // namespace persia
