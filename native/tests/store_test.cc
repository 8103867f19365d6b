#include "persia/store.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "check.h"
#include "helpers.h"
#include "persia/gradient_sum.h"
#include "persia/id_index.h"
#include "persia/initializer.h"
#include "persia/optimizer.h"
#include "persia/row_index.h"

namespace persia {

using testing::id;

TEST(index_agrees_with_a_map) {
  IdIndex index;
  std::map<std::uint64_t, std::uint32_t> expected;
  std::uint64_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    state = mix64(state + 0x9E3779B97F4A7C15ULL);
    const std::uint64_t key = state % 5000;
    const auto [at, is_new] = index.insert(key);
    const auto [entry, expected_new] = expected.emplace(key, static_cast<std::uint32_t>(expected.size()));
    CHECK(at == entry->second && is_new == expected_new);
    CHECK(index.find(key + 5000) == IdIndex::kAbsent);
  }
  CHECK(index.size() == expected.size());
  std::size_t visited = 0;
  index.for_each([&](std::uint64_t key, std::uint32_t at) {
    ++visited;
    CHECK(expected.at(key) == at);
  });
  CHECK(visited == expected.size());
}

TEST(initial_rows_depend_on_seed_and_id_only) {
  const InitializerSpec spec{.kind = InitializerKind::kUniform, .low = -0.25, .high = 0.5};
  std::vector<float> a(64), b(64), c(64), d(16);
  initialise_weights(spec, 1, 77, a);
  initialise_weights(spec, 1, 77, d);
  initialise_weights(spec, 2, 77, b);
  initialise_weights(spec, 1, 78, c);
  CHECK(a != b && a != c);
  CHECK(std::equal(d.begin(), d.end(), a.begin()));
  for (const float value : a) CHECK(value >= -0.25f && value < 0.5f);
}

TEST(adagrad_takes_the_published_step) {
  const auto adagrad = make_optimizer(
      {.kind = OptimizerKind::kAdagrad, .learning_rate = 0.5, .initial_accumulator = 0.25, .epsilon = 1e-10},
      1);
  std::vector<float> row{1, 0};  // weight, state
  const std::vector<float> gradient{2};
  adagrad->initialise(std::span(row).subspan(1));
  const RowStep step{row.data(), row.data() + 1, gradient.data()};
  adagrad->step({&step, 1}, 1);
  CHECK(row[1] == 4.25f);
  CHECK(std::abs(row[0] - (1 - 0.5f * 2 / std::sqrt(4.25f))) < 1e-6f);
}

TEST(evaluation_creates_nothing_and_reads_zeros) {
  const auto store = make_store(testing::table("t", 1, 2), 3, 1);
  std::vector<float> rows(4, 9.0f);
  const std::vector<std::uint64_t> first{id(1, 5)};
  store->lookup_training(first, std::span(rows).first(2));
  const std::vector<std::uint64_t> both{id(1, 6), id(1, 5)};
  const std::vector<float> trained(rows.begin(), rows.begin() + 2);
  CHECK(store->lookup_evaluation(both, rows) == std::vector<std::uint32_t>{0});
  CHECK(rows[0] == 0 && rows[1] == 0 && rows[2] == trained[0] && rows[3] == trained[1]);
  CHECK(store->statistics().rows == 1 && store->statistics().created == 1);
}

TEST(a_gradient_of_a_missing_id_moves_no_other_row) {
  const auto store = make_store(testing::table("t", 1, 1, OptimizerKind::kSgd), 3, 1);
  const std::vector<std::uint64_t> known{id(1, 1), id(1, 2)};
  std::vector<float> before(2), after(2);
  store->lookup_training(known, before);
  const std::vector<std::uint64_t> updated{id(1, 1), id(1, 99), id(1, 2)};
  const std::vector<float> gradients{1, 100, 2};
  const std::vector<const float*> each{&gradients[0], &gradients[1], &gradients[2]};
  store->update(updated, each, {});
  store->lookup_evaluation(known, after);
  CHECK(after[0] == before[0] - 0.5f && after[1] == before[1] - 1.0f);
  CHECK(store->statistics().updates == 2 && store->statistics().updates_missing == 1);
}

TEST(gradients_of_one_id_are_summed) {
  const std::vector<std::uint64_t> a{7, 8, 7}, b{8};
  const std::vector<float> ga{1, 2, 3, 4, 5, 6}, gb{10, 20};
  GradientSummer summer(2);
  const std::vector<GradientSource> sources{{a, ga, {}}, {b, gb, {}}};
  const GradientSum sum = summer.sum(sources);
  CHECK((std::vector<std::uint64_t>(sum.ids.begin(), sum.ids.end()) == std::vector<std::uint64_t>{7, 8}));
  CHECK(sum.gradients.size() == 2 && sum.sums.size() == 4);
  CHECK((std::vector<float>(sum.gradients[0], sum.gradients[0] + 2) == std::vector<float>{6, 8}));
  CHECK((std::vector<float>(sum.gradients[1], sum.gradients[1] + 2) == std::vector<float>{13, 24}));
}

TEST(row_index_agrees_with_a_map_under_erasure) {
  RowIndex index(0, 3000);
  std::map<std::uint64_t, std::uint32_t> expected;
  std::uint64_t state = 1;
  for (int i = 0; i < 60000; ++i) {
    state = mix64(state + 0x9E3779B97F4A7C15ULL);
    const std::uint64_t key = state % 6000;
    RowIndex::Entry* entry = index.find(key);
    CHECK((entry != nullptr) == expected.contains(key));
    if (entry != nullptr) {
      CHECK(entry->row() == expected.at(key));
      index.erase(entry);
      expected.erase(key);
    } else if (expected.size() < 3000) {
      index.make_room();
      index.insert(key, static_cast<std::uint32_t>(i), 7);
      expected.emplace(key, i);
    }
    CHECK(index.size() == expected.size());
  }
  CHECK(expected.size() > 2000);
  for (std::uint64_t key = 0; key < 6000; ++key) {
    const RowIndex::Entry* entry = index.find(key);
    CHECK((entry != nullptr) == expected.contains(key));
    CHECK(entry == nullptr || entry->row() == expected.at(key));
  }
}

TEST(a_row_index_can_be_as_full_as_it_was_made_for) {
  for (std::uint64_t rows = 1; rows < 300; ++rows) {
    RowIndex index(rows, rows);
    for (std::uint64_t key = 0; key < rows; ++key) {
      index.make_room();
      index.insert(key, static_cast<std::uint32_t>(key), 0);
    }
    CHECK(index.find(rows) == nullptr);  // ends, at a free entry
    CHECK(index.find(rows - 1) != nullptr);
  }
}

TEST(eviction_goes_on_in_order_when_the_clock_runs_out) {
  TableSpec spec = testing::table("t", 1, 1, OptimizerKind::kSgd);
  spec.capacity_bytes = 4 * (4 + kRowOverheadBytes);
  const auto store = make_store(spec, 3, 1);
  const std::vector<float> weight{1};
  for (std::uint32_t age = 0; age < 4; ++age) CHECK(store->insert(id(1, age), weight, {}, 0xFFFFFFFF - age));
  std::vector<float> row(1), rows(8);
  const std::vector<std::uint64_t> touched{id(1, 3)}, first{id(1, 100)}, second{id(1, 101)};
  store->lookup_training(touched, row);
  store->lookup_training(first, row);
  store->lookup_training(second, row);
  // 3 was touched, so 2 and 1 were the oldest; 0 was last used just before the clock ran out.
  const std::vector<std::uint64_t> all{id(1, 0), id(1, 1), id(1, 2), id(1, 3), id(1, 100), id(1, 101)};
  CHECK((store->lookup_evaluation(all, std::span(rows).first(6)) == std::vector<std::uint32_t>{1, 2}));
  CHECK(store->statistics().evicted == 2);
}

TEST(rows_older_than_all_of_a_full_table_are_not_inserted) {
  TableSpec spec = testing::table("t", 1, 1, OptimizerKind::kSgd);
  spec.capacity_bytes = 2 * (4 + kRowOverheadBytes);
  const auto store = make_store(spec, 3, 1);
  const std::vector<float> weight{1};
  for (const std::uint32_t used : {5u, 9u, 4u, 7u, 6u}) CHECK(store->insert(id(1, used), weight, {}, used));
  std::vector<std::uint32_t> left;
  store->for_each([&](std::uint64_t, std::span<const std::byte>, std::span<const float>, std::uint32_t used) {
    left.push_back(used);
  });
  std::sort(left.begin(), left.end());
  CHECK((left == std::vector<std::uint32_t>{7, 9}));
  CHECK(store->statistics().evicted == 3);
}

}  // namespace persia
