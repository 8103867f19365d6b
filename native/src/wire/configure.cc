#include <stdexcept>

#include "persia/messages.h"

namespace persia {
namespace {

// Name (4 bytes of length, at least one letter), four fixed fields, three kinds of which two may have no
// numbers and the optimizer has one at least, two sizes, an age and a type.
constexpr std::size_t kShortestTable = 5 + 4 * 4 + (4 + 8) + 4 + 4 + 2 * 8 + 2 * 4;
constexpr std::size_t kLongestName = 64;

template <typename Spec>
void encode_kind(Writer& writer, const Spec& spec, std::span<const Kind<Spec>> kinds) {
  writer.value(static_cast<std::uint32_t>(spec.kind));
  for (const Field<Spec>& field : kinds[static_cast<std::size_t>(spec.kind)].fields) {
    writer.value(spec.*field.member);
  }
}

template <typename Spec>
void decode_kind(Reader& reader, Spec& spec, std::span<const Kind<Spec>> kinds) {
  const auto kind = reader.value<std::uint32_t>();
  // What follows depends on the kind.
  if (kind >= kinds.size()) Reader::fail("a kind of optimizer, initializer or admission is unknown");
  spec.kind = static_cast<decltype(spec.kind)>(kind);
  for (const Field<Spec>& field : kinds[kind].fields) spec.*field.member = reader.value<double>();
}

void encode_table(Writer& writer, const TableSpec& table) {
  writer.string(table.name);
  writer.value(table.prefix);
  writer.value(table.prefix_bits);
  writer.value(table.dim);
  writer.value(static_cast<std::uint32_t>(table.pooling));
  encode_kind(writer, table.optimizer, optimizer_kinds());
  encode_kind(writer, table.initializer, initializer_kinds());
  encode_kind(writer, table.admission, admission_kinds());
  writer.value(table.expected_rows);
  writer.value(table.capacity_bytes);
  writer.value(table.max_age_days);
  writer.value(static_cast<std::uint32_t>(table.weight_type));
}

TableSpec decode_table(Reader& reader) {
  TableSpec table;
  table.name = reader.string(kLongestName);
  table.prefix = reader.value<std::uint32_t>();
  table.prefix_bits = reader.value<std::uint32_t>();
  table.dim = reader.value<std::uint32_t>();
  table.pooling = static_cast<Pooling>(reader.value<std::uint32_t>());
  decode_kind(reader, table.optimizer, optimizer_kinds());
  decode_kind(reader, table.initializer, initializer_kinds());
  decode_kind(reader, table.admission, admission_kinds());
  table.expected_rows = reader.value<std::uint64_t>();
  table.capacity_bytes = reader.value<std::uint64_t>();
  table.max_age_days = reader.value<std::uint32_t>();
  table.weight_type = static_cast<WeightType>(reader.value<std::uint32_t>());
  return table;
}

}  // namespace

Bytes ConfigureRequest::encode() const {
  Writer writer;
  writer.value(server);
  writer.value(servers);
  writer.value(trainers);
  writer.value(staleness);
  writer.value(static_cast<std::uint32_t>(combine ? 1 : 0));
  writer.value(static_cast<std::uint32_t>(tables.size()));
  writer.value(seed);
  writer.value(static_cast<std::uint32_t>(values));
  for (const TableSpec& table : tables) encode_table(writer, table);
  return writer.take();
}

ConfigureRequest ConfigureRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  ConfigureRequest request;
  request.server = reader.value<std::uint32_t>();
  request.servers = reader.value<std::uint32_t>();
  request.trainers = reader.value<std::uint32_t>();
  request.staleness = reader.value<std::uint32_t>();
  const auto combine = reader.value<std::uint32_t>();
  if (combine > 1) Reader::fail("combine is neither 0 nor 1");
  request.combine = combine == 1;
  const auto tables = reader.value<std::uint32_t>();
  request.seed = reader.value<std::uint64_t>();
  request.values = static_cast<WeightType>(reader.value<std::uint32_t>());
  if (tables > reader.rest() / kShortestTable) Reader::fail("there are more tables than bytes for them");
  for (std::uint32_t i = 0; i < tables; ++i) request.tables.push_back(decode_table(reader));
  reader.end();
  return request;
}

}  // namespace persia
