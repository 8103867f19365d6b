#include "persia/part_history.h"

#include <cstring>

namespace persia {
namespace {

constexpr std::uint64_t kMaxClock = 0xFFFFFFFF;

SmallTensor of_u64(std::string name, std::vector<std::uint64_t> shape,
                   std::span<const std::uint64_t> values) {
  const auto bytes = std::as_bytes(values);
  return {std::move(name), "U64", std::move(shape), {bytes.begin(), bytes.end()}};
}

}  // namespace

std::vector<SmallTensor> history_tensors(const std::string& table, const EmbeddingStore& store) {
  std::vector<SmallTensor> tensors;
  const TableHistory history = store.history();
  if (store.tracks_use()) {
    const std::uint64_t clock = history.clock.clock;
    tensors.push_back(of_u64(table + ".clock", {1}, {&clock, 1}));
  }
  if (!history.clock.days.empty()) {
    std::vector<std::uint64_t> days;
    for (const DayStart& each : history.clock.days) {
      days.push_back(each.day);
      days.push_back(each.clock);
    }
    tensors.push_back(of_u64(table + ".days", {history.clock.days.size(), 2}, days));
  }
  return tensors;
}

TableClock clock_from(std::span<const std::uint64_t> clock, std::span<const std::uint64_t> days) {
  TableClock result;
  for (const std::uint64_t value : clock) {
    if (value > kMaxClock) throw std::invalid_argument("the clock is above 2^32 - 1");
    result.clock = static_cast<std::uint32_t>(value);
  }
  for (std::size_t i = 0; i + 1 < days.size(); i += 2) {
    if (days[i] > kMaxClock || days[i + 1] > kMaxClock)
      throw std::invalid_argument("a day or its clock is above 2^32 - 1");
    result.days.push_back({static_cast<std::uint32_t>(days[i]), static_cast<std::uint32_t>(days[i + 1])});
  }
  DayList{result.days};
  return result;
}

}  // namespace persia
