// Workers with several lookups and updates under way, as a trainer's pipeline has them.
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <queue>
#include <thread>

#include "check.h"
#include "helpers.h"
#include "persia/in_process.h"
#include "persia/worker.h"

namespace persia {
namespace {

using testing::id;

constexpr std::uint64_t kSteps = 60;
constexpr std::uint32_t kTrainers = 2;

WorkerOptions options(std::uint32_t trainer, std::uint32_t staleness) {
  WorkerOptions result;
  result.tables = {testing::table("t", 1, 4, OptimizerKind::kSgd)};
  result.features = {{0}};
  result.trainer = trainer;
  result.trainers = kTrainers;
  result.staleness = staleness;
  result.timeout = std::chrono::seconds(30);
  return result;
}

template <typename T>
class Queue {
 public:
  void push(T item) {
    const std::lock_guard lock(mutex_);
    items_.push(std::move(item));
    changed_.notify_one();
  }
  T pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !items_.empty(); });
    T item = std::move(items_.front());
    items_.pop();
    return item;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::queue<T> items_;
};

// Four threads: one asks for rows, one collects them, one sends gradients (of 1, but for every fifth batch),
// one collects acknowledgements. Every batch has these ids, and is numbered from 1 on.
void train(Worker& worker, std::uint32_t staleness, const std::vector<std::uint64_t>& ids) {
  Queue<int> permits;
  Queue<PendingLookup> asked;
  Queue<std::shared_ptr<LookedUp>> ready;
  Queue<PendingReturn> sent;
  for (std::uint32_t i = 0; i < staleness; ++i) permits.push(0);
  std::vector<std::int64_t> offsets(ids.size() + 1);
  for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<std::int64_t>(i);
  const std::vector<FeatureIds> features{{ids, offsets}};
  const std::vector<float> gradient(ids.size() * 4, 1.0f);
  const std::vector<const float*> gradients{gradient.data()};
  std::jthread asking([&] {
    for (std::uint64_t step = 1; step <= kSteps; ++step) {
      permits.pop();
      asked.push(worker.begin_lookup(step, features, true));
    }
  });
  std::jthread collecting([&] {
    for (std::uint64_t step = 1; step <= kSteps; ++step) {
      PendingLookup pending = asked.pop();
      ready.push(worker.finish(pending));
    }
  });
  std::jthread sending([&] {
    for (std::uint64_t step = 1; step <= kSteps; ++step) {
      const std::shared_ptr<LookedUp> found = ready.pop();
      CHECK(found->batch == step);
      sent.push(step % 5 == 4 ? worker.begin_discard(*found) : worker.begin_update(*found, gradients, 1));
    }
  });
  for (std::uint64_t step = 1; step <= kSteps; ++step) {
    PendingReturn pending = sent.pop();
    worker.finish(pending);
    permits.push(0);
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

TEST(two_trainers_with_several_requests_under_way_lose_no_gradient) {
  constexpr std::uint32_t kStaleness = 4;
  const auto group = InProcessGroup::create(2, 2);
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::uint32_t t = 0; t < kTrainers; ++t)
    workers.push_back(std::make_unique<Worker>(options(t, kStaleness), group->connect(kStaleness)));
  workers[0]->configure();
  std::vector<std::uint64_t> ids;
  for (std::uint64_t value = 0; value < 40; ++value) ids.push_back(id(1, value));
  std::vector<std::int64_t> offsets(ids.size() + 1);
  for (std::size_t i = 0; i < offsets.size(); ++i) offsets[i] = static_cast<std::int64_t>(i);
  const std::vector<FeatureIds> features{{ids, offsets}};
  const auto before = workers[0]->lookup(0, features, true);
  workers[0]->discard(*before);
  {
    std::vector<std::jthread> trainers;
    for (const auto& worker : workers) trainers.emplace_back([&] { train(*worker, kStaleness, ids); });
  }
  CHECK(total(*workers[0], "staleness.max") <= 2 * kStaleness);  // of two servers
  CHECK(total(*workers[0], "requests.LOOKUP") == 2 * (kTrainers * kSteps + 1));
  CHECK(total(*workers[0], "step") == 2 * kTrainers * kSteps * 4 / 5);
  // SGD with learning rate 0.5: every update takes exactly as much, in whatever order.
  const auto after = workers[0]->lookup(0, features, false);
  for (std::size_t i = 0; i < after->pooled(0).size(); ++i) {
    const float expected = before->pooled(0)[i] - 0.5f * kTrainers * kSteps * 4 / 5;
    CHECK(std::abs(after->pooled(0)[i] - expected) < 1e-3f);
  }
}

TEST(with_staleness_1_a_second_request_waits_for_the_first) {
  const auto group = InProcessGroup::create(1);
  WorkerOptions alone = options(0, 1);
  alone.trainers = 1;
  Worker worker(alone, group->connect(1));  // which refuses a second request under way
  worker.configure();
  const std::vector<std::uint64_t> ids{id(1, 7)};
  const std::vector<std::int64_t> offsets{0, 1};
  const std::vector<FeatureIds> features{{ids, offsets}};
  PendingLookup first = worker.begin_lookup(0, features, false);
  PendingLookup second = worker.begin_lookup(0, features, false);
  CHECK(worker.finish(second)->missing_ids == 1);
  CHECK(worker.finish(first)->missing_ids == 1);
  CHECK_THROWS(std::invalid_argument, worker.finish(first));
}

}  // namespace persia
