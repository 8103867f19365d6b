// Replies of all servers, decoded.
#pragma once

#include <string>
#include <vector>

#include "persia/worker.h"

namespace persia {

template <typename Payload>
Payload Worker::decode(const Reply& reply, MessageType type, std::size_t server) {
  try {
    return Payload::decode(reply.payload);
  } catch (const RequestError& error) {
    throw TransportError("server rank " + std::to_string(server) + ": " + std::string(name_of(type)) +
                         ": the reply is damaged: " + error.what());
  }
}

template <typename Payload>
std::vector<Payload> Worker::decode_all(const std::vector<Reply>& replies, MessageType type) {
  require_ok(replies);
  std::vector<Payload> result;
  for (std::size_t s = 0; s < replies.size(); ++s) result.push_back(decode<Payload>(replies[s], type, s));
  return result;
}

}  // namespace persia
