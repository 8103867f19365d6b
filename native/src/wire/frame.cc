#include "persia/frame.h"

#include <algorithm>
#include <array>

#include "persia/ids.h"

namespace persia {
namespace {

constexpr std::array<std::byte, 4> kMagic = {std::byte{'P'}, std::byte{'R'}, std::byte{'S'}, std::byte{'A'}};
constexpr std::size_t kChecksumAt = 40;

std::uint64_t checksum(std::span<const std::byte> header, std::span<const std::byte> payload) {
  Xxh64 hash(0);
  hash.update(header.first(kChecksumAt));
  hash.update(payload);
  return hash.digest();
}

[[noreturn]] void refuse(ErrorCode code, const char* what) {
  throw RequestError(code, what);
}

struct RawHeader {
  std::uint16_t type;
  std::uint32_t trainer;
  std::uint32_t channel;
  std::uint64_t sequence;
  std::uint64_t payload_size;
  std::uint64_t checksum;
};

RawHeader read_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes) refuse(ErrorCode::kTruncated, "a frame has at least 48 bytes");
  if (!std::equal(kMagic.begin(), kMagic.end(), bytes.begin()))
    refuse(ErrorCode::kBadMagic, "magic is not PRSA");
  Reader reader(bytes.subspan(kMagic.size(), kHeaderBytes - kMagic.size()));
  if (reader.value<std::uint16_t>() != kWireVersion)
    refuse(ErrorCode::kBadVersion, "the wire version is another one");
  RawHeader header{};
  header.type = reader.value<std::uint16_t>();
  reader.zero();
  header.trainer = reader.value<std::uint32_t>();
  header.channel = reader.value<std::uint32_t>();
  reader.zero();
  header.sequence = reader.value<std::uint64_t>();
  header.payload_size = reader.value<std::uint64_t>();
  header.checksum = reader.value<std::uint64_t>();
  if (header.payload_size > kMaxPayload) refuse(ErrorCode::kTooLarge, "a payload has at most 4 GiB");
  return header;
}

}  // namespace

Bytes draft_frame(std::uint64_t payload_bytes) {
  if (payload_bytes > kMaxPayload) refuse(ErrorCode::kTooLarge, "a payload has at most 4 GiB");
  return Bytes(kHeaderBytes + payload_bytes);
}

void seal_frame(const FrameHeader& header, Bytes& frame) {
  const std::span<const std::byte> payload = payload_of(frame);
  Writer start(kHeaderBytes);
  start.array(std::span<const std::byte>(kMagic));
  start.value(kWireVersion);
  start.value(static_cast<std::uint16_t>(header.type));
  start.value(std::uint32_t{0});
  start.value(header.trainer);
  start.value(header.channel);
  start.value(std::uint32_t{0});
  start.value(header.sequence);
  start.value(static_cast<std::uint64_t>(payload.size()));
  const Bytes fields = start.take();
  const std::uint64_t sum = checksum(fields, payload);
  std::memcpy(frame.data(), fields.data(), kChecksumAt);
  std::memcpy(frame.data() + kChecksumAt, &sum, sizeof sum);
}

Bytes drafted(std::span<const std::byte> payload) {
  Bytes frame = draft_frame(payload.size());
  std::ranges::copy(payload, payload_of(frame).begin());
  return frame;
}

Bytes make_frame(const FrameHeader& header, std::span<const std::byte> payload) {
  Bytes frame = drafted(payload);
  seal_frame(header, frame);
  return frame;
}

std::uint64_t claimed_size(std::span<const std::byte> start) {
  return kHeaderBytes + read_header(start).payload_size;
}

Frame parse_frame(std::span<const std::byte> bytes) {
  const RawHeader raw = read_header(bytes);
  const auto payload = bytes.subspan(kHeaderBytes);
  if (payload.size() < raw.payload_size)
    refuse(ErrorCode::kTruncated, "the frame is shorter than its header says");
  if (payload.size() > raw.payload_size)
    refuse(ErrorCode::kBadLength, "the frame is longer than its header says");
  if (checksum(bytes, payload) != raw.checksum)
    refuse(ErrorCode::kBadChecksum, "the checksum does not match");
  const bool is_request = raw.type >= kFirstRequest && raw.type <= kLastRequest;
  const bool is_reply = raw.type == static_cast<std::uint16_t>(MessageType::kOk) ||
                        raw.type == static_cast<std::uint16_t>(MessageType::kError);
  if (!is_request && !is_reply) refuse(ErrorCode::kUnknownType, "the message type is unknown");
  if (raw.channel >= kChannels) Reader::fail("the channel is unknown");
  return {{static_cast<MessageType>(raw.type), raw.trainer, raw.channel, raw.sequence}, payload};
}

Bytes make_error(const FrameHeader& request, ErrorCode code, std::string_view text) {
  constexpr std::size_t kLongestText = 4096;
  Writer payload;
  payload.value(static_cast<std::uint32_t>(code));
  payload.string(text.substr(0, kLongestText));
  FrameHeader header = request;
  header.type = MessageType::kError;
  return make_frame(header, payload.take());
}

ErrorReply parse_error(std::span<const std::byte> payload) {
  Reader reader(payload);
  ErrorReply reply;
  reply.code = reader.value<std::uint32_t>();
  reply.text = reader.string(payload.size());
  reader.end();
  return reply;
}

}  // namespace persia
