// Frames: a header of 48 bytes, then a payload. The layout is specified in docs/formats/wire.md.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "persia/codec.h"

namespace persia {

enum class MessageType : std::uint16_t {
  kConfigure = 1,
  kLookup = 2,
  kUpdate = 3,
  kDiscard = 4,
  kSave = 5,
  kLoad = 6,
  kStats = 7,
  kShutdown = 8,
  kAdvanceDay = 9,
  kBeginSave = 10,
  kFinishSave = 11,
  kOk = 128,
  kError = 129,
};

inline constexpr std::uint16_t kFirstRequest = 1;
inline constexpr std::uint16_t kLastRequest = 11;

std::string_view name_of(MessageType type);

// Requests of different channels of a trainer overtake each other; those of one do not.
enum class Channel : std::uint32_t { kLookup = 0, kUpdate = 1, kControl = 2 };
inline constexpr std::uint32_t kChannels = 3;

struct FrameHeader {
  MessageType type = MessageType::kError;
  std::uint32_t trainer = 0;
  std::uint32_t channel = 0;
  std::uint64_t sequence =
      0;  // of a request: above all earlier ones of (trainer, channel); a reply echoes it
};

inline constexpr std::size_t kHeaderBytes = 48;
inline constexpr std::uint16_t kWireVersion = 3;
inline constexpr std::uint64_t kMaxPayload = std::uint64_t{4} << 30;

// A frame to be: room for the header, then `payload_bytes` that are to be written.
Bytes draft_frame(std::uint64_t payload_bytes);
inline std::span<std::byte> payload_of(Bytes& frame) {
  return std::span(frame).subspan(kHeaderBytes);
}
Bytes drafted(std::span<const std::byte> payload);
// Writes the header, with the checksum of the payload as it is now.
void seal_frame(const FrameHeader& header, Bytes& frame);

Bytes make_frame(const FrameHeader& header, std::span<const std::byte> payload);

struct Frame {
  FrameHeader header;
  std::span<const std::byte> payload;  // within the bytes that were parsed
};

// Size of the whole frame as its first bytes claim. Throws RequestError if they are no header, or claim
// more than kMaxPayload.
std::uint64_t claimed_size(std::span<const std::byte> start);

// Checks magic, version, length, checksum and type. Throws RequestError.
Frame parse_frame(std::span<const std::byte> bytes);

Bytes make_error(const FrameHeader& request, ErrorCode code, std::string_view text);

struct ErrorReply {
  std::uint32_t code;
  std::string text;
};
ErrorReply parse_error(std::span<const std::byte> payload);

}  // namespace persia
