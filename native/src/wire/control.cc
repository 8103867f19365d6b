// DISCARD, SAVE, BEGIN_SAVE, FINISH_SAVE, LOAD, ADVANCE_DAY and STATS.
#include "persia/messages.h"

namespace persia {
namespace {

constexpr std::size_t kLongestPath = 4096;
constexpr std::size_t kLongestCounter = 256;

std::string path_from(Reader& reader) {
  std::string path = reader.string(kLongestPath);
  if (path.find('\0') != std::string::npos) Reader::fail("a path has a zero byte");
  return path;
}

bool flag_from(Reader& reader) {
  const auto value = reader.value<std::uint32_t>();
  if (value > 1) Reader::fail("a flag is neither 0 nor 1");
  return value == 1;
}

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
  request.directory = path_from(reader);
  reader.end();
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

Bytes BeginSaveRequest::encode() const {
  Writer writer;
  writer.string(directory);
  writer.value(static_cast<std::uint32_t>(kind));
  writer.value(cut);
  return writer.take();
}

BeginSaveRequest BeginSaveRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  BeginSaveRequest request;
  request.directory = path_from(reader);
  const auto kind = reader.value<std::uint32_t>();
  if (kind > static_cast<std::uint32_t>(SaveKind::kDelta)) Reader::fail("a kind of save is unknown");
  request.kind = static_cast<SaveKind>(kind);
  request.cut = reader.value<std::uint64_t>();
  reader.end();
  if ((request.kind == SaveKind::kFull) != (request.cut == 0))
    Reader::fail("a base or a delta has the number of its cut, and nothing else has one");
  return request;
}

Bytes FinishSaveRequest::encode() const {
  Writer writer;
  writer.value(std::uint32_t{give_up});
  return writer.take();
}

FinishSaveRequest FinishSaveRequest::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  FinishSaveRequest request;
  request.give_up = flag_from(reader);
  reader.end();
  return request;
}

Bytes FinishSaveReply::encode() const {
  Writer writer;
  writer.value(std::uint32_t{done});
  const Bytes entry = part.encode();
  writer.array(std::span<const std::byte>(entry));
  return writer.take();
}

FinishSaveReply FinishSaveReply::decode(std::span<const std::byte> payload) {
  Reader reader(payload);
  FinishSaveReply reply;
  reply.done = flag_from(reader);
  reply.part = SaveReply::decode(payload.subspan(sizeof(std::uint32_t)));
  const bool empty = reply.part.rows == 0 && reply.part.bytes == 0 && reply.part.name.empty();
  if (!reply.done && !empty) Reader::fail("there is a part before the save is done");
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
    request.paths.push_back(path_from(reader));
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
