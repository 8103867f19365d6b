#include "persia/drafts.h"

namespace persia {
namespace {

// Writes from front to back into bytes that are there already.
class InPlace {
 public:
  explicit InPlace(std::span<std::byte> bytes) : rest_(bytes) {}
  template <typename T>
  void value(T v) {
    std::memcpy(take(sizeof v).data(), &v, sizeof v);
  }
  void ids(std::span<const std::uint64_t> ids) {
    if (!ids.empty()) std::memcpy(take(ids.size_bytes()).data(), ids.data(), ids.size_bytes());
  }
  // All that stands before rows is a multiple of four bytes, header and rows as well: floats are aligned.
  std::span<float> rows(std::uint64_t count) {
    return {reinterpret_cast<float*>(take(count * sizeof(float)).data()), count};
  }

 private:
  std::span<std::byte> take(std::size_t size) {
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  std::span<std::byte> rest_;
};

}  // namespace

RowsDraft draft_lookup_reply(std::span<const LookupShape> tables) {
  std::uint64_t size = 8;
  for (const LookupShape& table : tables) size += 24 + table.rows * table.dim * sizeof(float);
  RowsDraft draft{draft_frame(size), {}};
  InPlace writer(payload_of(draft.frame));
  writer.value(static_cast<std::uint32_t>(tables.size()));
  writer.value(std::uint32_t{0});
  for (const LookupShape& table : tables) {
    writer.value(table.table);
    writer.value(table.dim);
    writer.value(table.rows);
    writer.value(std::uint64_t{0});
    draft.rows.push_back(writer.rows(table.rows * table.dim));
  }
  return draft;
}

RowsDraft draft_update(std::uint64_t batch, std::span<const UpdateShape> tables) {
  std::uint64_t size = 16;
  for (const UpdateShape& table : tables) {
    size += 24 + table.ids.size() * (sizeof(std::uint64_t) + table.dim * sizeof(float));
  }
  RowsDraft draft{draft_frame(size), {}};
  InPlace writer(payload_of(draft.frame));
  writer.value(batch);
  writer.value(static_cast<std::uint32_t>(tables.size()));
  writer.value(std::uint32_t{0});
  for (const UpdateShape& table : tables) {
    writer.value(table.table);
    writer.value(table.dim);
    writer.value(table.learning_rate_factor);
    writer.value(static_cast<std::uint64_t>(table.ids.size()));
    writer.ids(table.ids);
    draft.rows.push_back(writer.rows(table.ids.size() * table.dim));
  }
  return draft;
}

}  // namespace persia
