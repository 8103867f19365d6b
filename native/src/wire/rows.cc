// LOOKUP and UPDATE: ids in, rows back, gradients in.
#include <cmath>

#include "persia/messages.h"
#include "persia/wire_values.h"

namespace persia {
namespace {

constexpr std::size_t kShortestTable = 16;

// Tables come in ascending order, so that none can come twice.
template <typename Entry>
void check_order(const std::vector<Entry>& before, std::uint32_t table) {
  if (!before.empty() && before.back().table >= table) Reader::fail("tables are not in ascending order");
}

void check_count(std::uint32_t tables, const Reader& reader) {
  if (tables > reader.rest() / kShortestTable) Reader::fail("there are more tables than bytes for them");
}

bool is_factor(double value) {
  return std::isfinite(value) && value >= 0;
}

Floats checked_rows(Reader& reader, WeightType values, std::uint64_t rows, std::uint32_t dim) {
  if (dim < 1 || dim > kMaxDim) Reader::fail("dim is not from 1 to 1024");
  if (rows > 0xFFFFFFFF) Reader::fail("there are more than 2^32 - 1 rows");
  return read_rows(reader, values, rows, dim);
}

WeightType decode_values(Reader& reader) {
  const auto values = static_cast<WeightType>(reader.value<std::uint32_t>());
  if (name_of(values) == nullptr) Reader::fail("the type of the values is unknown");
  return values;
}

}  // namespace

Bytes LookupRequest::encode() const {
  std::size_t size = 16;
  for (const TableIds& table : tables) size += 16 + table.ids.size() * 8;
  Writer writer(size);
  writer.value(batch);
  writer.value(static_cast<std::uint32_t>(training ? 1 : 0));
  writer.value(static_cast<std::uint32_t>(tables.size()));
  for (const TableIds& table : tables) {
    writer.value(table.table);
    writer.value(std::uint32_t{0});
    writer.value(static_cast<std::uint64_t>(table.ids.size()));
    writer.array(std::span<const std::uint64_t>(table.ids));
  }
  return writer.take();
}

LookupRequest LookupRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  LookupRequest request;
  request.batch = reader.value<std::uint64_t>();
  const auto training = reader.value<std::uint32_t>();
  if (training > 1) Reader::fail("training is neither 0 nor 1");
  request.training = training == 1;
  const auto tables = reader.value<std::uint32_t>();
  check_count(tables, reader);
  for (std::uint32_t i = 0; i < tables; ++i) {
    TableIds table;
    table.table = reader.value<std::uint32_t>();
    check_order(request.tables, table.table);
    reader.zero();
    table.ids = reader.array<std::uint64_t>(reader.value<std::uint64_t>());
    request.tables.push_back(std::move(table));
  }
  reader.end();
  return request;
}

Bytes LookupReply::encode() const {
  std::size_t size = 8;
  for (const TableRows& table : tables) {
    size += 24 + table.rows * wire_row_bytes(values, table.dim) + table.missing.size() * 4;
  }
  Writer writer(size);
  writer.value(static_cast<std::uint32_t>(tables.size()));
  writer.value(static_cast<std::uint32_t>(values));
  for (const TableRows& table : tables) {
    writer.value(table.table);
    writer.value(table.dim);
    writer.value(table.rows);
    writer.value(static_cast<std::uint64_t>(table.missing.size()));
    write_rows(writer, values, table.dim, table.weights);
    writer.array(std::span<const std::uint32_t>(table.missing));
  }
  return writer.take();
}

LookupReply LookupReply::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  LookupReply reply;
  const auto tables = reader.value<std::uint32_t>();
  reply.values = decode_values(reader);
  check_count(tables, reader);
  for (std::uint32_t i = 0; i < tables; ++i) {
    TableRows table;
    table.table = reader.value<std::uint32_t>();
    check_order(reply.tables, table.table);
    table.dim = reader.value<std::uint32_t>();
    table.rows = reader.value<std::uint64_t>();
    const auto missing = reader.value<std::uint64_t>();
    table.weights = checked_rows(reader, reply.values, table.rows, table.dim);
    table.missing = reader.array<std::uint32_t>(missing);
    for (std::size_t m = 0; m < table.missing.size(); ++m) {
      const bool ascending = m == 0 || table.missing[m - 1] < table.missing[m];
      if (!ascending || table.missing[m] >= table.rows) Reader::fail("missing positions are out of order");
    }
    reply.tables.push_back(std::move(table));
  }
  reader.end();
  return reply;
}

Bytes UpdateRequest::encode() const {
  std::size_t size = 16;
  for (const TableGradients& table : tables) {
    size += 24 + table.ids.size() * (8 + wire_row_bytes(values, table.dim));
  }
  Writer writer(size);
  writer.value(batch);
  writer.value(static_cast<std::uint32_t>(tables.size()));
  writer.value(static_cast<std::uint32_t>(values));
  for (const TableGradients& table : tables) {
    writer.value(table.table);
    writer.value(table.dim);
    writer.value(table.learning_rate_factor);
    writer.value(static_cast<std::uint64_t>(table.ids.size()));
    writer.array(std::span<const std::uint64_t>(table.ids));
    write_rows(writer, values, table.dim, table.gradients);
  }
  return writer.take();
}

UpdateRequest UpdateRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  UpdateRequest request;
  request.batch = reader.value<std::uint64_t>();
  const auto tables = reader.value<std::uint32_t>();
  request.values = decode_values(reader);
  check_count(tables, reader);
  for (std::uint32_t i = 0; i < tables; ++i) {
    TableGradients table;
    table.table = reader.value<std::uint32_t>();
    check_order(request.tables, table.table);
    table.dim = reader.value<std::uint32_t>();
    table.learning_rate_factor = reader.value<double>();
    if (!is_factor(table.learning_rate_factor)) Reader::fail("a learning rate factor is not a number >= 0");
    const auto rows = reader.value<std::uint64_t>();
    table.ids = reader.array<std::uint64_t>(rows);
    table.gradients = checked_rows(reader, request.values, rows, table.dim);
    request.tables.push_back(std::move(table));
  }
  reader.end();
  return request;
}

}  // namespace persia
