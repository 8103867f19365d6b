#include <array>
#include <limits>
#include <memory>

#include "check.h"
#include "helpers.h"
#include "persia/batch_plan.h"

namespace persia {

using testing::id;

namespace {

// Bags of one feature: {1, 2, 1, 3}, {}, {3}; values are ids of table 1.
const std::vector<std::uint64_t> kIds{id(1, 1), id(1, 2), id(1, 1), id(1, 3), id(1, 3)};
const std::vector<std::int64_t> kOffsets{0, 4, 4, 5};

struct Case {
  explicit Case(FeatureSpec feature) : spec(feature) {
    const std::array features{FeatureIds{kIds, kOffsets}};
    plan = plan_batch(features, {&spec, 1}, {&table, 1}, 2);
    for (const std::uint64_t unique : plan.tables[0].unique) {
      const auto value = static_cast<float>(unique & 0xff);
      rows.insert(rows.end(), {value, 10 * value});
    }
  }
  // The row of value v is {v, 10 v}.
  std::vector<float> pooled() const {
    std::vector<float> result(plan.rows * spec.width(2), -1.0f);
    std::vector<const float*> row_of;
    for (std::size_t at = 0; at < rows.size(); at += 2) row_of.push_back(rows.data() + at);
    pool(plan, 0, spec, 2, row_of, result);
    return result;
  }
  // Of each unique id in order, times 2.
  std::vector<float> gradients(const std::vector<float>& pooled_gradient) const {
    std::vector<float> sums(rows.size());
    std::vector<float*> sum_of;
    for (std::size_t at = 0; at < sums.size(); at += 2) sum_of.push_back(sums.data() + at);
    CHECK(add_gradients(plan, 0, spec, 2, pooled_gradient, 2.0f, sum_of));
    return sums;
  }

  FeatureSpec spec;
  TableSpec table = testing::table("t", 1, 2);
  BatchPlan plan;
  std::vector<float> rows;
};

using Values = std::vector<float>;

}  // namespace

TEST(sums_means_and_sqrtn_of_bags_by_hand) {
  const Case sum({0, Pooling::kSum});
  CHECK(sum.pooled() == (Values{7, 70, 0, 0, 3, 30}));
  CHECK(sum.gradients({1, 0, 5, 5, 0, 1}) == (Values{4, 0, 2, 0, 2, 2}));  // of 1 (twice), 2 and 3
  const Case mean({0, Pooling::kMean});
  CHECK(mean.pooled() == (Values{1.75f, 17.5f, 0, 0, 3, 30}));
  CHECK(mean.gradients({1, 0, 5, 5, 0, 1}) == (Values{1, 0, 0.5f, 0, 0.5f, 2}));
  const Case sqrtn({0, Pooling::kSqrtn});
  CHECK(sqrtn.pooled() == (Values{3.5f, 35, 0, 0, 3, 30}));  // the root of 4 is 2
  CHECK(sqrtn.gradients({1, 0, 5, 5, 0, 1}) == (Values{2, 0, 1, 0, 1, 2}));
}

TEST(a_sequence_keeps_the_last_ids_of_a_bag_in_order) {
  const Case cut({0, Pooling::kSequence, 3});
  CHECK(cut.plan.truncated == 1);  // 2, 1 and 3 are left of the first bag
  CHECK(cut.plan.tables[0].unique == (std::vector<std::uint64_t>{id(1, 2), id(1, 1), id(1, 3)}));
  CHECK(cut.pooled() == (Values{2, 20, 1, 10, 3, 30, 0, 0, 0, 0, 0, 0, 3, 30, 0, 0, 0, 0}));
  Values gradient(18, 100.0f);  // what places without an id get goes nowhere
  for (const std::size_t place : {0u, 1u, 2u, 3u, 4u, 5u, 12u, 13u}) {
    gradient[place] = static_cast<float>(place);
  }
  CHECK(cut.gradients(gradient) == (Values{0, 2, 4, 6, 2 * (4 + 12), 2 * (5 + 13)}));
  for (const std::size_t place : {6u, 11u, 14u, 17u}) {  // where no id is
    Values spoilt = gradient;
    spoilt[place] = std::numeric_limits<float>::quiet_NaN();
    Values sums(6);
    const std::vector<float*> sum_of{sums.data(), sums.data() + 2, sums.data() + 4};
    CHECK(!add_gradients(cut.plan, 0, cut.spec, 2, spoilt, 1.0f, sum_of));
  }
  const std::size_t places = cut.plan.rows * 3;
  const auto mask = std::make_unique<bool[]>(places);
  fill_mask(cut.plan, 0, cut.spec, {mask.get(), places});
  const std::array expected{true, true, true, false, false, false, true, false, false};
  for (std::size_t i = 0; i < places; ++i) CHECK(mask[i] == expected[i]);

  const Case whole({0, Pooling::kSequence, 4});
  CHECK(whole.plan.truncated == 0);
  CHECK(whole.gradients(Values(24, 1.0f)) == (Values{4, 4, 2, 2, 4, 4}));  // 1 and 3 stand in two places
}

}  // namespace persia
