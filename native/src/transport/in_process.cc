#include "persia/in_process.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>
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

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> items_;
  bool closed_ = false;
};

using Replies = std::vector<std::array<Mailbox<Bytes>, kChannels>>;  // by server and channel

class Group;

class Client final : public ClientTransport {
 public:
  Client(std::shared_ptr<Group> group, std::int32_t number, std::shared_ptr<Replies> replies)
      : group_(std::move(group)), number_(number), replies_(std::move(replies)) {}
  ~Client() override;
  std::uint32_t servers() const override { return static_cast<std::uint32_t>(replies_->size()); }
  void send(std::uint32_t server, Channel channel, Bytes frame) override;
  std::optional<Bytes> receive(std::uint32_t server, Channel channel, Deadline deadline) override {
    Mailbox<Bytes>& box = (*replies_)[server][static_cast<std::size_t>(channel)];
    std::optional<Bytes> reply = box.pop(deadline);
    if (!reply && box.closed()) throw TransportError("the server has ended");
    return reply;
  }

 private:
  std::shared_ptr<Group> group_;
  std::int32_t number_;
  std::shared_ptr<Replies> replies_;
};

class Group final : public InProcessGroup, public std::enable_shared_from_this<Group> {
 public:
  Group(std::uint32_t servers, std::uint32_t threads)
      : threads_of_server_(threads), requests_(servers), ended_(servers) {
    for (std::uint32_t s = 0; s < servers; ++s) servers_.push_back(std::make_unique<Server>(s, threads));
    for (std::uint32_t s = 0; s < servers; ++s) threads_.emplace_back([this, s] { run(s); });
  }
  ~Group() override {
    stop_ = true;
    for (auto& box : requests_) box.close();
    for (std::thread& thread : threads_) thread.join();
  }
  std::uint32_t threads_of_server() const { return threads_of_server_; }
  std::uint32_t servers() const { return static_cast<std::uint32_t>(requests_.size()); }
  std::unique_ptr<ClientTransport> connect() override {
    auto replies = std::make_shared<Replies>(requests_.size());
    const std::lock_guard lock(mutex_);
    const std::int32_t number = next_client_++;
    clients_[number] = replies;
    for (std::size_t s = 0; s < ended_.size(); ++s) {
      if (ended_[s]) close_boxes((*replies)[s]);
    }
    return std::make_unique<Client>(shared_from_this(), number, std::move(replies));
  }
  void disconnect(std::int32_t client) {
    const std::lock_guard lock(mutex_);
    clients_.erase(client);
  }
  void post(std::uint32_t server, Incoming request) { requests_[server].push(std::move(request)); }

 private:
  class Side final : public ServerTransport {
   public:
    Side(Group& group, std::uint32_t index) : group_(group), index_(index) {}
    std::optional<Incoming> poll() override {
      return group_.requests_[index_].pop(Clock::now() + std::chrono::seconds(1));
    }
    void send(Outgoing reply) override {
      const std::lock_guard lock(group_.mutex_);
      const auto client = group_.clients_.find(reply.peer.rank);
      if (client == group_.clients_.end()) return;
      (*client->second)[index_][static_cast<std::size_t>(reply.peer.channel)].push(std::move(reply.frame));
    }
    void flush(Deadline) override {}

   private:
    Group& group_;
    std::uint32_t index_;
  };

  static void close_boxes(std::array<Mailbox<Bytes>, kChannels>& boxes) {
    for (auto& box : boxes) box.close();
  }

  void run(std::uint32_t index) {
    Side side(*this, index);
    serve(*servers_[index], side, stop_);
    const std::lock_guard lock(mutex_);
    ended_[index] = true;
    for (auto& [number, replies] : clients_) close_boxes((*replies)[index]);
  }

  std::uint32_t threads_of_server_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::atomic<bool> stop_ = false;
  std::vector<Mailbox<Incoming>> requests_;
  std::mutex mutex_;  // guards the following three
  std::vector<bool> ended_;
  std::map<std::int32_t, std::shared_ptr<Replies>> clients_;
  std::int32_t next_client_ = 0;
  std::vector<std::thread> threads_;
};

Client::~Client() {
  group_->disconnect(number_);
}

void Client::send(std::uint32_t server, Channel channel, Bytes frame) {
  group_->post(server, {{number_, static_cast<std::int32_t>(channel)}, std::move(frame)});
}

}  // namespace

std::shared_ptr<InProcessGroup> InProcessGroup::create(std::uint32_t servers, std::uint32_t threads) {
  return std::make_shared<Group>(servers, threads);
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
