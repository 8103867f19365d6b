// Every payload has one spelling: what a decoder takes, the encoder writes back byte by byte.
#pragma once

#include <algorithm>
#include <optional>
#include <span>

#include "persia/messages.h"
#include "violation.h"

namespace persia::fuzz {

// Nothing if the decoder refuses the payload; any other exception than that is a defect and escapes.
template <typename Message>
std::optional<Message> decode_canonical(std::span<const std::byte> payload) {
  std::optional<Message> message;
  try {
    message = Message::decode(payload);
  } catch (const RequestError& error) {
    require(error.code() == ErrorCode::kMalformed, "a decoder refuses with MALFORMED");
    return message;
  }
  require(std::ranges::equal(message->encode(), payload), "a decoded payload is encoded to the same bytes");
  return message;
}

}  // namespace persia::fuzz
