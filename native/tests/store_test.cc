#include "persia/store.h"

#include <cmath>
#include <map>

#include "check.h"
#include "helpers.h"
#include "persia/gradient_sum.h"
#include "persia/id_index.h"
#include "persia/initializer.h"
#include "persia/optimizer.h"

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
  const InitializerSpec spec{InitializerKind::kUniform, -0.25, 0.5};
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
  const auto adagrad = make_optimizer({OptimizerKind::kAdagrad, 0.5, 0.25, 1e-10}, 1);
  std::vector<float> weight{1}, state(1);
  const std::vector<float> gradient{2};
  adagrad->initialise(state);
  adagrad->step(weight, state, gradient);
  CHECK(state[0] == 4.25f);
  CHECK(std::abs(weight[0] - (1 - 0.5f * 2 / std::sqrt(4.25f))) < 1e-6f);
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
  store->update(updated, gradients);
  store->lookup_evaluation(known, after);
  CHECK(after[0] == before[0] - 0.5f && after[1] == before[1] - 1.0f);
  CHECK(store->statistics().updates == 2 && store->statistics().updates_missing == 1);
}

TEST(gradients_of_one_id_are_summed) {
  const std::vector<std::uint64_t> a{7, 8, 7}, b{8};
  const std::vector<float> ga{1, 2, 3, 4, 5, 6}, gb{10, 20};
  GradientSummer summer(2);
  summer.add(a, ga);
  summer.add(b, gb);
  const GradientSum sum = summer.finish();
  CHECK((sum.ids == std::vector<std::uint64_t>{7, 8}));
  CHECK((sum.gradients == std::vector<float>{6, 8, 13, 24}));
}

}  // namespace persia
