#include "persia/day_list.h"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace persia {
namespace {

// The last day that began at `clock` or before; the first one for clocks before it.
std::vector<DayStart>::const_iterator day_at(const std::vector<DayStart>& starts, std::uint32_t clock) {
  const auto after = std::upper_bound(starts.begin(), starts.end(), clock,
                                      [](std::uint32_t c, const DayStart& each) { return c < each.clock; });
  return after == starts.begin() ? after : after - 1;
}

std::vector<DayStart>::const_iterator first_from(const std::vector<DayStart>& starts, std::uint32_t day) {
  return std::lower_bound(starts.begin(), starts.end(), day,
                          [](const DayStart& each, std::uint32_t d) { return each.day < d; });
}

}  // namespace

DayList::DayList(std::vector<DayStart> starts) : starts_(std::move(starts)) {
  for (std::size_t i = 1; i < starts_.size(); ++i) {
    if (starts_[i].day <= starts_[i - 1].day || starts_[i].clock <= starts_[i - 1].clock)
      throw std::invalid_argument("days and their clocks do not ascend");
  }
}

bool DayList::advance(std::uint32_t day, std::uint32_t next_clock) {
  if (!starts_.empty() && day <= starts_.back().day) return false;
  // A day without lookups has no rows.
  if (!starts_.empty() && starts_.back().clock == next_clock) starts_.pop_back();
  starts_.push_back({day, starts_.empty() ? 0 : next_clock});
  return true;
}

std::optional<std::uint32_t> DayList::first_clock_of(std::uint32_t day) const {
  const auto found = first_from(starts_, day);
  if (found == starts_.begin() || found == starts_.end()) return std::nullopt;
  return found->clock;
}

void DayList::forget_before(std::uint32_t day) {
  starts_.erase(starts_.begin(), first_from(starts_, day));
}

void DayList::renumber(std::span<const std::uint32_t> used) {
  std::vector<DayStart> renumbered;
  for (const DayStart& each : starts_) {
    const auto below = std::lower_bound(used.begin(), used.end(), each.clock) - used.begin();
    const auto clock = static_cast<std::uint32_t>(below) + 1;
    if (!renumbered.empty() && renumbered.back().clock == clock) renumbered.pop_back();
    renumbered.push_back({each.day, clock});
  }
  starts_ = std::move(renumbered);
}

MergedClock::MergedClock(std::vector<TableClock> parts) : parts_(std::move(parts)) {
  std::set<std::uint32_t> days;
  for (const TableClock& part : parts_) {
    merged_.clock = std::max(merged_.clock, part.clock);
    for (const DayStart& each : part.days) days.insert(each.day);
  }
  for (const std::uint32_t day : days) {
    std::uint32_t clock = merged_.days.empty() ? 0 : merged_.days.back().clock + 1;
    for (const TableClock& part : parts_) {
      if (part.days.empty()) continue;
      const auto found = first_from(part.days, day);
      clock = std::max(clock, found == part.days.end() ? part.clock + 1 : found->clock);
    }
    merged_.days.push_back({day, clock});
    merged_.clock = std::max(merged_.clock, clock == 0 ? 0 : clock - 1);
  }
}

std::uint32_t MergedClock::convert(std::size_t part, std::uint32_t clock) const {
  const std::vector<DayStart>& days = merged_.days;
  if (days.empty()) return clock;
  const std::vector<DayStart>& own = parts_[part].days;
  const auto day = own.empty() ? days.begin() : first_from(days, day_at(own, clock)->day);
  const std::uint32_t first = day == days.begin() ? 0 : day->clock;
  const std::uint32_t last = day + 1 == days.end() ? merged_.clock : (day + 1)->clock - 1;
  return std::clamp(clock, first, std::max(first, last));
}

}  // namespace persia
