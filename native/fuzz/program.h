// The input of the fuzz target server_frames: a small program, so that mutations get behind checksums and
// sequence numbers. Any bytes are a program; what is cut short ends where the input ends.
//
//   u8 configuration, then records of
//     u8 kind % 3 = 0 raw:     u16 size, bytes: given to the server as they are, on channel 0
//                   1 request: u8 type, u8 trainer, u8 channel, u8 step, u16 size, payload: framed with the
//                              right checksum and the last sequence number of (trainer, channel) + step
//                   2 reply:   u8 decoder, u16 size, bytes: given to what a worker decodes replies with
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "persia/codec.h"
#include "persia/frame.h"

namespace persia::fuzz {

enum class Kind : std::uint8_t { kRaw = 0, kRequest = 1, kReply = 2 };
inline constexpr unsigned kKinds = 3;

struct Record {
  Kind kind = Kind::kRaw;
  std::uint8_t type = 0;  // of a request, or the decoder of a reply
  std::uint8_t trainer = 0;
  std::uint8_t channel = 0;
  std::uint8_t step = 0;
  std::span<const std::byte> bytes;
};

// Its own reading of bytes: the Reader of the product is under test.
class ProgramReader {
 public:
  explicit ProgramReader(std::span<const std::byte> input) : rest_(input) {}
  bool done() const { return rest_.empty(); }
  std::span<const std::byte> rest() const { return rest_; }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto value = std::to_integer<std::uint8_t>(rest_.front());
    rest_ = rest_.subspan(1);
    return value;
  }
  Record record() {
    Record record;
    record.kind = static_cast<Kind>(byte() % kKinds);
    if (record.kind != Kind::kRaw) record.type = byte();
    if (record.kind == Kind::kRequest) {
      record.trainer = byte();
      record.channel = byte();
      record.step = byte();
    }
    std::size_t size = byte();
    size |= std::size_t{byte()} << 8;
    size = std::min(size, rest_.size());
    record.bytes = rest_.first(size);
    rest_ = rest_.subspan(size);
    return record;
  }

 private:
  std::span<const std::byte> rest_;
};

class ProgramWriter {
 public:
  explicit ProgramWriter(std::uint8_t configuration) { writer_.value(configuration); }
  ProgramWriter& raw(const Bytes& bytes) {
    writer_.value(static_cast<std::uint8_t>(Kind::kRaw));
    return sized(bytes);
  }
  ProgramWriter& request(MessageType type, const Bytes& payload, std::uint8_t trainer = 0,
                         Channel channel = Channel::kLookup, std::uint8_t step = 1) {
    writer_.value(static_cast<std::uint8_t>(Kind::kRequest));
    writer_.value(static_cast<std::uint8_t>(type));
    writer_.value(trainer);
    writer_.value(static_cast<std::uint8_t>(channel));
    writer_.value(step);
    return sized(payload);
  }
  ProgramWriter& reply(std::uint8_t decoder, const Bytes& bytes) {
    writer_.value(static_cast<std::uint8_t>(Kind::kReply));
    writer_.value(decoder);
    return sized(bytes);
  }
  Bytes take() { return writer_.take(); }

 private:
  ProgramWriter& sized(const Bytes& bytes) {
    writer_.value(static_cast<std::uint16_t>(bytes.size()));
    writer_.array(std::span<const std::byte>(bytes));
    return *this;
  }
  Writer writer_;
};

}  // namespace persia::fuzz
