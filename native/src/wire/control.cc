// DISCARD, SAVE, LOAD, ADVANCE_DAY and STATS.
#include "persia/messages.h"

namespace persia {
namespace {

constexpr std::size_t kLongestPath = 4096;
constexpr std::size_t kLongestCounter = 256;

}  // namespace

Bytes DiscardRequest::encode() const {
  Writer writer;
  writer.value(batch);
  return writer.take();
}

DiscardRequest DiscardRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  DiscardRequest request;
  request.batch = reader.value<std::uint64_t>();
  reader.end();
  return request;
}

Bytes SaveRequest::encode() const {
  Writer writer;
  writer.string(directory);
  return writer.take();
}

SaveRequest SaveRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  SaveRequest request;
  request.directory = reader.string(kLongestPath);
  reader.end();
  if (request.directory.find('\0') != std::string::npos) Reader::fail("a path has a zero byte");
  return request;
}

Bytes SaveReply::encode() const {
  Writer writer;
  writer.value(rows);
  writer.value(bytes);
  writer.string(name);
  return writer.take();
}

SaveReply SaveReply::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  SaveReply reply;
  reply.rows = reader.value<std::uint64_t>();
  reply.bytes = reader.value<std::uint64_t>();
  reply.name = reader.string(kLongestPath);
  reader.end();
  return reply;
}

Bytes LoadRequest::encode() const {
  Writer writer;
  writer.value(static_cast<std::uint32_t>(paths.size()));
  for (const std::string& path : paths) writer.string(path);
  return writer.take();
}

LoadRequest LoadRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  LoadRequest request;
  const auto count = reader.value<std::uint32_t>();
  if (count > reader.rest() / 4) Reader::fail("there are more paths than bytes for them");
  for (std::uint32_t i = 0; i < count; ++i) {
    request.paths.push_back(reader.string(kLongestPath));
    if (request.paths.back().find('\0') != std::string::npos) Reader::fail("a path has a zero byte");
  }
  reader.end();
  return request;
}

Bytes LoadReply::encode() const {
  Writer writer;
  writer.value(rows);
  writer.value(bytes);
  return writer.take();
}

LoadReply LoadReply::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  LoadReply reply;
  reply.rows = reader.value<std::uint64_t>();
  reply.bytes = reader.value<std::uint64_t>();
  reader.end();
  return reply;
}

Bytes AdvanceDayRequest::encode() const {
  Writer writer;
  writer.value(day);
  return writer.take();
}

AdvanceDayRequest AdvanceDayRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  AdvanceDayRequest request;
  request.day = reader.value<std::uint32_t>();
  reader.end();
  return request;
}

Bytes StatsReply::encode() const {
  Writer writer;
  writer.value(static_cast<std::uint32_t>(counters.size()));
  for (const auto& [name, value] : counters) {
    writer.string(name);
    writer.value(value);
  }
  return writer.take();
}

StatsReply StatsReply::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  StatsReply reply;
  const auto count = reader.value<std::uint32_t>();
  if (count > reader.rest() / 12) Reader::fail("there are more counters than bytes for them");
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string name = reader.string(kLongestCounter);
    const auto value = reader.value<std::uint64_t>();
    reply.counters.emplace_back(std::move(name), value);
  }
  reader.end();
  return reply;
}

}  // namespace persia
