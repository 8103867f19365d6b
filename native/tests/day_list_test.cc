#include "persia/day_list.h"

#include <map>

#include "check.h"
#include "helpers.h"
#include "persia/store.h"

namespace persia {

using testing::id;

TEST(days_without_lookups_leave_nothing_behind) {
  DayList days;
  CHECK(days.advance(5, 1));
  CHECK(days.advance(6, 10));
  CHECK(days.advance(9, 10));
  CHECK(!days.advance(9, 20) && !days.advance(8, 20));
  CHECK((days.starts() == std::vector<DayStart>{{5, 0}, {9, 10}}));
  CHECK(days.first_clock_of(5) == std::nullopt);
  CHECK(days.first_clock_of(6) == 10u && days.first_clock_of(9) == 10u);
  days.forget_before(7);
  CHECK((days.starts() == std::vector<DayStart>{{9, 10}}));
  CHECK_THROWS(std::invalid_argument, DayList({{5, 0}, {5, 1}}));
  CHECK_THROWS(std::invalid_argument, DayList({{5, 1}, {6, 1}}));
}

TEST(clocks_that_agree_stay_what_they_are) {
  const TableClock clock{12, {{5, 0}, {6, 4}, {8, 13}}};
  const MergedClock merged({clock, clock});
  CHECK(merged.merged().clock == 12 && merged.merged().days == clock.days);
  for (std::uint32_t c = 0; c <= 12; ++c) CHECK(merged.convert(0, c) == c && merged.convert(1, c) == c);
}

// Servers of which some have refused lookups or been told of days at other times.
TEST(clocks_that_differ_keep_the_day_and_the_order_of_rows) {
  const std::vector<TableClock> parts{
      {20, {{5, 0}, {6, 4}, {8, 13}}}, {9, {{6, 0}, {7, 5}, {8, 6}}}, {30, {{8, 0}}}, {7, {}}};
  const MergedClock merged(parts);
  const DayList days(merged.merged().days);  // they ascend
  const auto day_of = [](const std::vector<DayStart>& starts, std::uint32_t clock) {
    std::uint32_t day = starts.front().day;
    for (const DayStart& each : starts) day = each.clock <= clock ? each.day : day;
    return day;
  };
  for (std::size_t p = 0; p < parts.size(); ++p) {
    std::uint32_t before = 0;
    for (std::uint32_t clock = 0; clock <= parts[p].clock; ++clock) {
      const std::uint32_t converted = merged.convert(p, clock);
      const std::uint32_t expected = parts[p].days.empty() ? 5 : day_of(parts[p].days, clock);
      CHECK(day_of(days.starts(), converted) == expected);
      CHECK(converted >= before);
      before = converted;
    }
  }
  CHECK(merged.merged().clock == 30);
}

TEST(rows_keep_their_day_when_the_clock_runs_out) {
  TableSpec spec = testing::table("t", 1, 1, OptimizerKind::kSgd);
  spec.max_age_days = 2;
  const auto store = make_store(spec, 3, 1);
  const std::uint32_t last = 0xFFFFFFFF;
  store->restore({{last, {{10, 0}, {11, last - 20}, {12, last - 10}}}, {}});
  const std::vector<float> weight{1};
  CHECK(store->insert(id(1, 0), weight, {}, last - 30));  // day 10
  CHECK(store->insert(id(1, 1), weight, {}, last - 15));  // day 11
  CHECK(store->insert(id(1, 2), weight, {}, last - 5));   // day 12
  std::vector<float> row(1);
  const std::vector<std::uint64_t> today{id(1, 3)};
  store->lookup_training(today, row);  // numbers the clocks anew
  CHECK(store->history().clock.clock < 10);
  const auto rows_left = [&](std::uint32_t day) {
    store->advance_day(day);
    return store->statistics().rows;
  };
  CHECK(rows_left(12) == 4 && rows_left(13) == 3 && rows_left(14) == 2 && rows_left(15) == 0);
  CHECK(store->statistics().expired == 4);
}

}  // namespace persia
