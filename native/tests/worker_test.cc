#include "persia/worker.h"

#include <condition_variable>
#include <limits>
#include <queue>
#include <thread>

#include "check.h"
#include "helpers.h"
#include "persia/in_process.h"

namespace persia {

using testing::id;

namespace {

WorkerOptions options(std::uint32_t trainer, std::uint32_t trainers, std::uint32_t staleness, bool combine) {
  WorkerOptions result;
  result.tables = {testing::table("t", 1, 4)};
  result.features = {{0}, {0}};
  result.trainer = trainer;
  result.trainers = trainers;
  result.staleness = staleness;
  result.combine = combine;
  result.timeout = std::chrono::seconds(30);
  return result;
}

struct Batch {
  std::vector<std::uint64_t> ids;
  std::vector<std::int64_t> offsets;
  std::vector<FeatureIds> features() const { return {{ids, offsets}, {ids, offsets}}; }
};

Batch batch(std::uint64_t seed) {
  Batch result;
  result.offsets.push_back(0);
  for (std::uint64_t row = 0; row < 8; ++row) {
    for (std::uint64_t i = 0; i < mix64(seed * 31 + row) % 4; ++i)
      result.ids.push_back(id(1, mix64(seed + i) % 50));
    result.offsets.push_back(static_cast<std::int64_t>(result.ids.size()));
  }
  return result;
}

// Lookups on one thread, updates on another, at most `staleness` batches between them.
void train(Worker& worker, std::uint32_t staleness, std::uint64_t steps) {
  std::mutex mutex;
  std::condition_variable changed;
  std::queue<std::shared_ptr<LookedUp>> ready;
  std::uint32_t permits = staleness;
  std::jthread lookups([&] {
    for (std::uint64_t step = 0; step < steps; ++step) {
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return permits > 0; });
        --permits;
      }
      const Batch ids = batch(step);
      auto found = worker.lookup(step, ids.features(), true);
      const std::lock_guard lock(mutex);
      ready.push(std::move(found));
      changed.notify_all();
    }
  });
  for (std::uint64_t step = 0; step < steps; ++step) {
    std::shared_ptr<LookedUp> found;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return !ready.empty(); });
      found = std::move(ready.front());
      ready.pop();
    }
    if (step % 5 == 4) {
      worker.discard(*found);
    } else {
      const std::vector<float> gradient(8 * 4, 0.01f);
      const std::vector<const float*> gradients{gradient.data(), gradient.data()};
      worker.update(*found, gradients, 1);
    }
    const std::lock_guard lock(mutex);
    ++permits;
    changed.notify_all();
  }
}

std::uint64_t total(Worker& worker, const std::string& name) {
  std::uint64_t sum = 0;
  for (const StatsReply& reply : worker.stats()) {
    for (const auto& [key, value] : reply.counters) sum += key == name ? value : 0;
  }
  return sum;
}

}  // namespace

TEST(two_threads_and_two_trainers_at_once) {
  for (const auto& [combine, staleness] : {std::pair{false, 3u}, {true, 1u}, {true, 3u}}) {
    const std::uint32_t threads = combine ? 2 : 3;  // of each server
    const auto group = InProcessGroup::create(2, threads);
    std::vector<std::unique_ptr<Worker>> workers;
    for (std::uint32_t t = 0; t < 2; ++t) {
      workers.push_back(std::make_unique<Worker>(options(t, 2, staleness, combine), group->connect()));
    }
    workers[0]->configure();
    {
      std::vector<std::jthread> trainers;
      for (const auto& worker : workers) trainers.emplace_back([&] { train(*worker, staleness, 50); });
    }
    CHECK(total(*workers[0], "requests.LOOKUP") == 2 * 2 * 50);
    CHECK(total(*workers[0], "requests.UPDATE") == 2 * 2 * 40);
    CHECK(total(*workers[0], "requests.DISCARD") == 2 * 2 * 10);
    CHECK(total(*workers[0], "tables.t.updates_missing") == 0);
    workers[0]->shutdown();
    CHECK_THROWS(TransportError, workers[1]->stats());
  }
}

TEST(a_client_that_collects_no_reply_stops_only_itself) {
  const auto group = InProcessGroup::create(1, 2);
  Worker other(options(0, 2, 1, false), group->connect());
  other.configure();
  std::vector<std::uint64_t> ids;
  for (std::uint64_t value = 0; value < 5000; ++value) ids.push_back(id(1, value));
  const Bytes payload = LookupRequest{0, false, {{0, ids}}}.encode();
  const std::uint64_t reply_bytes = 48 + 8 + 24 + ids.size() * (4 * 4 + 4);  // docs/formats/wire.md
  std::uint64_t sequence = 0;
  const auto next = [&] { return make_frame({MessageType::kLookup, 1, 0, ++sequence}, payload); };
  {
    const auto lazy = group->connect();
    lazy->send(0, Channel::kLookup, next());
    for (int i = 0; i < 100; ++i) CHECK_THROWS(TransportError, lazy->send(0, Channel::kLookup, next()));
    while (total(other, "requests.LOOKUP") == 0) std::this_thread::yield();
    const Batch ids_of_other = batch(1);
    for (std::uint64_t step = 0; step < 50; ++step) {
      other.discard(*other.lookup(step, ids_of_other.features(), true));
    }
    CHECK(total(other, "requests.LOOKUP") == 51);
    CHECK(total(other, "buffered.bytes") == reply_bytes);
    CHECK(total(other, "buffered.most_bytes") < reply_bytes + 10000);
    const auto soon = Clock::now() + std::chrono::seconds(30);
    CHECK(lazy->receive(0, Channel::kLookup, soon)->size() == reply_bytes);
    lazy->send(0, Channel::kLookup, next());
    while (total(other, "requests.LOOKUP") == 51) std::this_thread::yield();
  }
  // What the client has left behind goes with it.
  CHECK(total(other, "buffered.bytes") == 0);
}

namespace {

// Loses the requests of one type to server 1. For them the time is up at once: a test need not wait.
class Losing final : public ClientTransport {
 public:
  Losing(std::unique_ptr<ClientTransport> inner, MessageType lost) : inner_(std::move(inner)), lost_(lost) {}
  std::uint32_t servers() const override { return inner_->servers(); }
  void send(std::uint32_t server, Channel channel, Bytes frame) override {
    lost_now_ = server == 1 && parse_frame(frame).header.type == lost_;
    if (!lost_now_) inner_->send(server, channel, std::move(frame));
  }
  std::optional<Bytes> receive(std::uint32_t server, Channel channel, Deadline deadline) override {
    if (server == 1 && lost_now_) return std::nullopt;
    return inner_->receive(server, channel, deadline);
  }

 private:
  std::unique_ptr<ClientTransport> inner_;
  MessageType lost_;
  bool lost_now_ = false;
};

}  // namespace

TEST(every_request_that_gets_no_answer_names_server_and_operation) {
  const Batch ids = batch(1);
  const std::vector<float> gradient(8 * 4, 1.0f);
  const std::vector<const float*> gradients{gradient.data(), gradient.data()};
  testing::TemporaryDirectory directory;
  using Call = std::function<void(Worker&)>;
  const std::vector<std::pair<MessageType, Call>> calls{
      {MessageType::kConfigure, [](Worker& w) { w.configure(); }},
      {MessageType::kLookup, [&](Worker& w) { w.lookup(1, ids.features(), true); }},
      {MessageType::kUpdate, [&](Worker& w) { w.update(*w.lookup(1, ids.features(), true), gradients, 1); }},
      {MessageType::kDiscard, [&](Worker& w) { w.discard(*w.lookup(1, ids.features(), true)); }},
      {MessageType::kSave, [&](Worker& w) { w.save(directory.path()); }},
      {MessageType::kLoad, [&](Worker& w) { w.load({}); }},
      {MessageType::kStats, [](Worker& w) { w.stats(); }},
      {MessageType::kShutdown, [](Worker& w) { w.shutdown(); }},
  };
  for (const auto& [type, call] : calls) {
    const auto group = InProcessGroup::create(2);
    Worker worker(options(0, 1, 1, false), std::make_unique<Losing>(group->connect(), type));
    std::string error;
    try {
      if (type != MessageType::kConfigure) worker.configure();
      call(worker);
    } catch (const TransportError& caught) {
      error = caught.what();
    }
    const bool bulk = type == MessageType::kSave || type == MessageType::kLoad;
    CHECK(error == "server rank 1: " + std::string(name_of(type)) + ": no answer within " +
                       (bulk ? "900" : "30") + " s");
  }
}

TEST(a_worker_refuses_what_it_must_not_send) {
  Worker worker(options(0, 1, 1, false), InProcessGroup::create(2)->connect());
  CHECK_THROWS(ServerError, worker.lookup(0, batch(1).features(), true));  // not configured yet
  worker.configure();
  const Batch good = batch(1);
  Batch wrong = good;
  wrong.ids[0] = id(2, 1);
  CHECK_THROWS(std::invalid_argument, worker.lookup(0, wrong.features(), true));
  wrong = good;
  wrong.offsets[1] = 100;
  CHECK_THROWS(std::invalid_argument, worker.lookup(0, wrong.features(), true));
  const auto evaluated = worker.lookup(0, good.features(), false);
  CHECK(evaluated->missing_ids == evaluated->unique_ids);
  const std::vector<float> gradient(8 * 4, 1.0f);
  const std::vector<const float*> gradients{gradient.data(), gradient.data()};
  CHECK_THROWS(std::invalid_argument, worker.update(*evaluated, gradients, 1));
  const auto found = worker.lookup(0, good.features(), true);
  CHECK_THROWS(ServerError, worker.lookup(1, good.features(), true));  // staleness 1
  std::vector<float> infinite = gradient;
  infinite[5] = std::numeric_limits<float>::infinity();
  const std::vector<const float*> bad{gradient.data(), infinite.data()};
  CHECK_THROWS(std::invalid_argument, worker.update(*found, bad, 1));
  CHECK(total(worker, "requests.UPDATE") == 0);
  worker.update(*found, gradients, 1);
  CHECK_THROWS(std::invalid_argument, worker.update(*found, gradients, 1));
  CHECK_THROWS(std::invalid_argument, worker.discard(*found));
}

}  // namespace persia
