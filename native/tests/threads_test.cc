#include <algorithm>
#include <atomic>
#include <map>
#include <new>
#include <stdexcept>
#include <string>

#include "check.h"
#include "helpers.h"
#include "persia/checkpoint.h"
#include "persia/sharded_store.h"
#include "persia/table_set.h"
#include "persia/thread_team.h"

namespace persia {

using testing::Bench;
using testing::id;

namespace {

std::vector<std::uint64_t> ids_of_step(std::uint64_t step) {
  std::vector<std::uint64_t> ids;
  for (std::uint64_t i = 0; i < 200; ++i) ids.push_back(id(1, mix64(step * 1000 + i) % 700));
  return ids;
}

// Lookups and updates of two tables, then an evaluation of all ids; some of them repeat within a batch.
std::vector<float> history(std::uint32_t threads, std::uint64_t capacity_bytes) {
  TableSpec first = testing::table("a", 1, 3);
  first.capacity_bytes = capacity_bytes;
  const std::vector<TableSpec> specs{first, testing::table("b", 2, 5, OptimizerKind::kSgd)};
  ThreadTeam team(threads);
  TableSet tables(specs, 5, 1, team);
  for (std::uint64_t step = 0; step < 60; ++step) {
    const std::vector<std::uint64_t> a = ids_of_step(step);
    std::vector<std::uint64_t> b;
    for (const std::uint64_t each : a) b.push_back(id(2, each % 251));
    std::vector<float> rows_a(a.size() * 3), rows_b(b.size() * 5);
    const std::vector<TableSet::Lookup> lookups{{0, a, rows_a}, {1, b, rows_b}};
    tables.lookup(lookups, true);
    for (float& value : rows_a) value = value * 3 - 1;
    for (float& value : rows_b) value = 0.25f - value;
    const std::vector<TableSet::Update> updates{{0, a, rows_a}, {1, b, rows_b}, {0, a, rows_a}};
    const std::vector<StepOptions> options(2);
    tables.update(updates, options);
  }
  std::vector<std::uint64_t> all;
  for (std::uint64_t value = 0; value < 700; ++value) all.push_back(id(1, value));
  std::vector<float> rows(all.size() * 3);
  const TableSet::Lookup lookup{0, all, rows};
  tables.lookup({&lookup, 1}, false);
  return rows;
}

}  // namespace

TEST(a_team_runs_on_every_thread_and_hands_over_what_it_wrote) {
  for (const std::uint32_t threads : {1u, 2u, 5u}) {
    ThreadTeam team(threads);
    std::vector<std::uint64_t> sums(threads);  // not atomic: run() must order the accesses
    for (std::uint64_t run = 1; run <= 3000; ++run) {
      team.run([&](std::uint32_t t) { sums[t] += run * (t + 1); });
      if (run % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // they fall asleep
      for (std::uint32_t t = 0; t < threads; ++t) CHECK(sums[t] == run * (run + 1) / 2 * (t + 1));
    }
  }
}

TEST(a_team_throws_the_error_of_its_first_thread_after_all_have_ended) {
  ThreadTeam team(4);
  std::atomic<int> ended = 0;
  try {
    team.run([&](std::uint32_t t) {
      if (t == 3) throw std::runtime_error("of thread 3");
      if (t == 2) throw std::bad_alloc();
      ++ended;
    });
    CHECK(false);
  } catch (const std::bad_alloc&) {
    CHECK(ended == 2);
  }
  team.run([&](std::uint32_t) { ++ended; });  // the team is whole, and the error forgotten
  CHECK(ended == 6);
  CHECK_THROWS(std::invalid_argument, ThreadTeam(0));
  CHECK_THROWS(std::invalid_argument, ThreadTeam(kMaxThreads + 1));
}

TEST(a_partition_keeps_every_id_its_place_and_their_order) {
  Partition partition;
  for (const std::uint32_t shards : {3u, 1u, 4u}) {
    const std::vector<std::uint64_t> ids = ids_of_step(shards);
    partition.assign(ids, shards);
    std::map<std::uint32_t, std::uint64_t> found;
    for (std::uint32_t s = 0; s < shards; ++s) {
      CHECK(std::is_sorted(partition[s].places.begin(), partition[s].places.end()));
      for (std::size_t i = 0; i < partition[s].ids.size(); ++i) {
        CHECK((mix64(partition[s].ids[i]) >> 32) % shards == s);
        found[partition[s].places[i]] = partition[s].ids[i];
      }
    }
    CHECK(found.size() == ids.size());
    for (const auto& [place, each] : found) CHECK(ids[place] == each);
  }
}

TEST(rows_do_not_depend_on_the_number_of_threads) {
  const std::vector<float> expected = history(1, 0);
  CHECK(history(2, 0) == expected);
  CHECK(history(3, 0) == expected);
  // With a capacity, they depend on it, but not on when threads run.
  const std::uint64_t capacity = 150 * (4 * 6 + kRowOverheadBytes);
  CHECK(history(3, capacity) == history(3, capacity));
  CHECK(history(3, capacity) != expected);
}

TEST(a_share_of_the_capacity_must_hold_a_row) {
  TableSpec spec = testing::table("t", 1, 1, OptimizerKind::kSgd);
  spec.capacity_bytes = 2 * (4 + kRowOverheadBytes);
  ThreadTeam two(2), three(3);
  const ShardedStore holds_two(spec, 1, 1, two);
  CHECK_THROWS(std::invalid_argument, ShardedStore(spec, 1, 1, three));
}

TEST(a_sharded_store_is_a_store) {
  ThreadTeam team(3);
  ShardedStore store(testing::table("t", 1, 3), 5, 1, team);
  EmbeddingStore& sharded = store;
  const auto plain = make_store(testing::table("t", 1, 3), 5, 1);
  for (std::uint64_t step = 0; step < 20; ++step) {
    std::vector<std::uint64_t> ids = ids_of_step(step);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    std::vector<float> a(ids.size() * 3), b(ids.size() * 3);
    CHECK(sharded.lookup_evaluation(ids, a) == plain->lookup_evaluation(ids, b));
    CHECK(a == b);
    sharded.lookup_training(ids, a);
    plain->lookup_training(ids, b);
    CHECK(a == b);
    std::vector<const float*> gradients;
    for (std::size_t i = 0; i < ids.size(); ++i) gradients.push_back(&b[i * 3]);
    sharded.update(ids, gradients, {});
    plain->update(ids, gradients, {});
  }
  const StoreStatistics x = sharded.statistics(), y = plain->statistics();
  CHECK(x.rows == y.rows && x.hits == y.hits && x.misses == y.misses && x.created == y.created);
  CHECK(x.updates == y.updates && x.lookups == y.lookups && x.rows > 500);
}

TEST(after_a_restore_all_shards_have_one_clock) {
  TableSpec spec = testing::table("t", 1, 1, OptimizerKind::kSgd);
  spec.capacity_bytes = 100 * (4 + kRowOverheadBytes);
  ThreadTeam team(2);
  ShardedStore store(spec, 1, 1, team);
  std::vector<std::uint64_t> ids{id(1, 0)};
  for (std::uint64_t value = 1; ids.size() < 2; ++value) {
    if (shard_of(id(1, value), 2) != shard_of(ids[0], 2)) ids.push_back(id(1, value));
  }
  const std::vector<float> weight{1};
  store.restore({{10, {}}, {}});
  store.insert(ids[0], weight, {}, 3);
  store.insert(ids[1], weight, {}, 10);
  std::vector<float> rows(2);
  store.lookup_training(ids, rows, {});
  store.for_each([](std::uint64_t, auto, auto, std::uint32_t last_used) { CHECK(last_used == 11); });
}

TEST(a_sum_that_is_not_finite_changes_no_table_on_any_thread) {
  for (const std::uint32_t threads : {1u, 3u}) {
    const std::vector<TableSpec> specs{testing::table("a", 1, 1, OptimizerKind::kSgd),
                                       testing::table("b", 2, 1, OptimizerKind::kSgd)};
    Bench bench(specs, 1, 8, false, threads);
    for (std::uint32_t bad = 0; bad < 2; ++bad) {
      std::vector<std::uint64_t> a, b;
      for (std::uint64_t value = 0; value < 20; ++value) {
        a.push_back(id(1, value));
        b.push_back(id(2, value));
      }
      a.push_back(id(1, 7));
      b.push_back(id(2, 7));
      const std::uint64_t batch = 2 * bad;
      CHECK(bench.send(MessageType::kLookup, LookupRequest{batch, true, {{0, a}, {1, b}}}.encode()) == "OK");
      const auto before_a = bench.rows(0, a), before_b = bench.rows(1, b);
      std::vector<float> gradients(21, 1.0f);
      std::vector<float> huge = gradients;
      huge[7] = huge[20] = 3e38f;  // finite each, their sum is not
      const UpdateRequest refused{
          batch, {{0, 1, 1.0, a, bad == 0 ? huge : gradients}, {1, 1, 1.0, b, bad == 1 ? huge : gradients}}};
      CHECK(bench.send(MessageType::kUpdate, refused.encode()) == "NOT_FINITE");
      CHECK(bench.rows(0, a) == before_a && bench.rows(1, b) == before_b);
      // Nothing of the refused request is left to be added to the next one.
      const UpdateRequest next{batch, {{0, 1, 1.0, {a[3]}, {2}}, {1, 1, 1.0, {b[3]}, {4}}}};
      CHECK(bench.send(MessageType::kUpdate, next.encode()) == "OK");
      auto expected_a = before_a, expected_b = before_b;
      expected_a[3] -= 0.5f * 2;
      expected_b[3] -= 0.5f * 4;
      CHECK(bench.rows(0, a) == expected_a && bench.rows(1, b) == expected_b);
    }
  }
}

}  // namespace persia
