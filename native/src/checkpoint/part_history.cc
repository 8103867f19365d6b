#include "persia/part_history.h"

#include <algorithm>

#include "persia/ids.h"
#include "persia/part_format.h"

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
  if (store.counts_sightings()) {
    const std::uint64_t seen = history.sightings.ids.size();
    const auto counts = std::as_bytes(std::span<const std::uint8_t>(history.sightings.counts));
    tensors.push_back(of_u64(table + ".seen_ids", {seen}, history.sightings.ids));
    // Last, so that all before it is aligned to its elements.
    tensors.push_back({table + ".sightings", "U8", {seen}, {counts.begin(), counts.end()}});
  }
  return tensors;
}

SmallTensor removed_tensor(const std::string& table, const EmbeddingStore& store) {
  std::vector<std::uint64_t> ids;
  for (std::uint32_t shard = 0; shard < store.shards(); ++shard) store.append_removed(shard, ids);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return of_u64(table + ".removed_ids", {ids.size()}, ids);
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

void SightingsReader::add(std::span<const std::uint64_t> ids, std::span<const std::uint8_t> counts) {
  if (ids.size() != counts.size()) throw std::invalid_argument("there is not one count per id that was seen");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0 && ids[i] <= ids[i - 1]) throw std::invalid_argument("the ids that were seen do not ascend");
    if (!table_.owns(ids[i])) throw std::invalid_argument("an id that was seen has another prefix");
    if (counts[i] == 0) throw std::invalid_argument("an id was seen 0 times");
    if (server_of(ids[i], servers_) != server_) continue;
    if (!index_.insert(ids[i]).second)
      throw std::invalid_argument("id " + hex64(ids[i]) + " was seen in an earlier part already");
    counts_.push_back(counts[i]);
  }
}

Sightings SightingsReader::seen() const {
  std::vector<std::pair<std::uint64_t, std::uint8_t>> pairs;
  index_.for_each([&](std::uint64_t id, std::uint32_t at) { pairs.emplace_back(id, counts_[at]); });
  std::sort(pairs.begin(), pairs.end());
  Sightings result;
  for (const auto& [id, count] : pairs) {
    result.ids.push_back(id);
    result.counts.push_back(count);
  }
  return result;
}

}  // namespace persia
