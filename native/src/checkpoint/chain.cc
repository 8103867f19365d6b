#include "chain.h"

#include <algorithm>

#include "persia/part_format.h"

namespace persia {

Chain chain_of(std::span<const PartReader> parts) {
  Chain chain;
  std::vector<bool> taken(parts.size(), false);
  const auto take = [&](auto&& belongs) {
    std::vector<std::size_t> link;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      if (taken[p] || !belongs(parts[p].cut())) continue;
      if (!link.empty() && parts[link.front()].cut().number != parts[p].cut().number)
        parts[p].mismatch("is of another cut than " + parts[link.front()].path());
      taken[p] = true;
      link.push_back(p);
    }
    return link;
  };
  std::vector<std::size_t> link = take([](const CutName& cut) { return !cut.follows; });
  while (!link.empty()) {
    chain.push_back(std::move(link));
    const std::uint64_t last = parts[chain.back().front()].cut().number;
    link = take([last](const CutName& cut) { return cut.follows == last; });
  }
  const auto left = std::ranges::find(taken, false) - taken.begin();
  if (static_cast<std::size_t>(left) < parts.size()) {
    const PartReader& part = parts[static_cast<std::size_t>(left)];
    part.mismatch("is a delta that follows cut " + hex64(*part.cut().follows) + ", of which no part is here");
  }
  return chain;
}

void require_one_clock(const PartReader& part, const TableSpec& table, std::span<const TableClock> clocks) {
  for (const TableClock& clock : clocks) {
    if (clock.clock != clocks.front().clock || clock.days != clocks.front().days)
      part.mismatch("the clocks of table " + table.name + " differ among the servers that wrote this cut");
  }
}

}  // namespace persia
