// Which clocks of training lookups belong to which logical day, so that a row needs no day of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace persia {

// Days are numbered from 1970-01-01, and come from the caller: never from the wall clock.
struct DayStart {
  std::uint32_t day;
  std::uint32_t clock;  // of its first training lookup
  bool operator==(const DayStart&) const = default;
};

class DayList {
 public:
  DayList() = default;
  // Throws std::invalid_argument if days or clocks do not ascend.
  explicit DayList(std::vector<DayStart> starts);

  // From `next_clock` on it is `day`. False, changing nothing, if it is that day or a later one already.
  // Lookups before the first day that is ever told count as of that day.
  bool advance(std::uint32_t day, std::uint32_t next_clock);
  // The first clock of `day`, the current day at the latest; nothing if no lookup was before it.
  std::optional<std::uint32_t> first_clock_of(std::uint32_t day) const;
  // Days before `day` are not asked for any more.
  void forget_before(std::uint32_t day);
  // Clocks are numbered anew: a clock becomes 1 + how many of `used`, which ascend, are below it.
  void renumber(std::span<const std::uint32_t> used);

  const std::vector<DayStart>& starts() const { return starts_; }

 private:
  std::vector<DayStart> starts_;  // days and clocks ascend
};

// The clock and the days of a table on one server.
struct TableClock {
  std::uint32_t clock = 0;  // training lookups so far
  std::vector<DayStart> days;
};

// One clock for the rows of several servers. Servers count the same lookups, so their clocks and days are
// alike, and clocks stay what they are. If not (a server has refused what others did), rows keep their day,
// and their order within it as far as there is room.
class MergedClock {
 public:
  explicit MergedClock(std::vector<TableClock> parts);
  const TableClock& merged() const { return merged_; }
  // The merged clock of a row that was last used at `clock` of part `part`.
  std::uint32_t convert(std::size_t part, std::uint32_t clock) const;

 private:
  std::vector<TableClock> parts_;
  TableClock merged_;
};

}  // namespace persia
