// Fuzz target: whatever frames a server is sent, it answers each once, refuses what is wrong without a
// change, and stays alive. program.h has the layout of the input.
#include <array>
#include <cstddef>
#include <cstdint>

#include "canonical.h"
#include "configurations.h"
#include "program.h"
#include "sandbox.h"
#include "session.h"

namespace persia::fuzz {
namespace {

constexpr std::size_t kMostRecords = 64;

void decode_frame(std::span<const std::byte> bytes) {
  try {
    require(claimed_size(bytes) >= kHeaderBytes, "a frame has a header");
    const Frame frame = parse_frame(bytes);
    require(claimed_size(bytes) == bytes.size(), "a frame is as long as its header says");
    if (frame.header.type == MessageType::kError) static_cast<void>(parse_error(frame.payload));
  } catch (const RequestError& error) {
    require(name_of(error.code()) != "UNKNOWN", "a frame is refused with a code");
  }
}

// What a worker does with the bytes of a reply; the decoders of requests too, without a server behind them.
void decode_reply(std::uint8_t decoder, std::span<const std::byte> bytes) {
  using Decode = void (*)(std::span<const std::byte>);
  static constexpr std::array<Decode, 14> kDecoders{
      decode_frame,
      [](auto payload) { static_cast<void>(decode_canonical<LookupReply>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<SaveReply>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<LoadReply>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<StatsReply>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<ConfigureRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<LookupRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<UpdateRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<SaveRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<LoadRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<AdvanceDayRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<BeginSaveRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<FinishSaveRequest>(payload)); },
      [](auto payload) { static_cast<void>(decode_canonical<FinishSaveReply>(payload)); },
  };
  kDecoders[decoder % kDecoders.size()](bytes);
}

void run(std::span<const std::byte> input) {
  static const std::vector<ConfigureRequest> configurations = small_configurations();
  Sandbox::instance().clean();
  ProgramReader program(input);
  Session session;
  // One more choice leaves the server to the program's own CONFIGURE.
  const std::size_t chosen = program.byte() % (configurations.size() + 1);
  if (chosen < configurations.size()) {
    session.request(MessageType::kConfigure, 0, 2, 1, configurations[chosen].encode());
    require(session.accepted().has_value(), "the small configurations are right");
  }
  for (std::size_t i = 0; i < kMostRecords && !program.done() && !session.stopped(); ++i) {
    const Record record = program.record();
    switch (record.kind) {
      case Kind::kRaw: session.deliver(Bytes(record.bytes.begin(), record.bytes.end()), 0); break;
      case Kind::kRequest:
        session.request(static_cast<MessageType>(record.type), record.trainer, record.channel, record.step,
                        record.bytes);
        break;
      case Kind::kReply: decode_reply(record.type, record.bytes); break;
    }
  }
}

}  // namespace
}  // namespace persia::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  persia::fuzz::run(std::as_bytes(std::span(data, size)));
  return 0;
}
