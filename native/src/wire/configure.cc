#include <stdexcept>

#include "persia/messages.h"

namespace persia {
namespace {

// Name (4 bytes of length, at least one letter), then the fixed fields.
constexpr std::size_t kShortestTable = 5 + 5 * 4 + 3 * 8 + 4 + 2 * 8 + 8;
constexpr std::size_t kLongestName = 64;

void encode_table(Writer& writer, const TableSpec& table) {
  writer.string(table.name);
  writer.value(table.prefix);
  writer.value(table.prefix_bits);
  writer.value(table.dim);
  writer.value(static_cast<std::uint32_t>(table.pooling));
  writer.value(static_cast<std::uint32_t>(table.optimizer.kind));
  writer.value(table.optimizer.learning_rate);
  writer.value(table.optimizer.initial_accumulator);
  writer.value(table.optimizer.epsilon);
  writer.value(static_cast<std::uint32_t>(table.initializer.kind));
  writer.value(table.initializer.low);
  writer.value(table.initializer.high);
  writer.value(table.expected_rows);
}

TableSpec decode_table(Reader& reader) {
  TableSpec table;
  table.name = reader.string(kLongestName);
  table.prefix = reader.value<std::uint32_t>();
  table.prefix_bits = reader.value<std::uint32_t>();
  table.dim = reader.value<std::uint32_t>();
  table.pooling = static_cast<Pooling>(reader.value<std::uint32_t>());
  table.optimizer.kind = static_cast<OptimizerKind>(reader.value<std::uint32_t>());
  table.optimizer.learning_rate = reader.value<double>();
  table.optimizer.initial_accumulator = reader.value<double>();
  table.optimizer.epsilon = reader.value<double>();
  table.initializer.kind = static_cast<InitializerKind>(reader.value<std::uint32_t>());
  table.initializer.low = reader.value<double>();
  table.initializer.high = reader.value<double>();
  table.expected_rows = reader.value<std::uint64_t>();
  return table;
}

}  // namespace

Bytes ConfigureRequest::encode() const {
  Writer writer;
  writer.value(server);
  writer.value(servers);
  writer.value(trainers);
  writer.value(staleness);
  writer.value(static_cast<std::uint32_t>(sync ? 1 : 0));
  writer.value(static_cast<std::uint32_t>(tables.size()));
  writer.value(seed);
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
  const auto sync = reader.value<std::uint32_t>();
  if (sync > 1) Reader::fail("sync is neither 0 nor 1");
  request.sync = sync == 1;
  const auto tables = reader.value<std::uint32_t>();
  request.seed = reader.value<std::uint64_t>();
  if (tables > reader.rest() / kShortestTable) Reader::fail("there are more tables than bytes for them");
  for (std::uint32_t i = 0; i < tables; ++i) request.tables.push_back(decode_table(reader));
  reader.end();
  return request;
}

}  // namespace persia
