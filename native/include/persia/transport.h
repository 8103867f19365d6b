// How frames travel. Two carriers: MPI point-to-point, and queues within one process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include "persia/error.h"
#include "persia/frame.h"
#include "persia/server.h"

namespace persia {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;

// The side of a worker. Of each (server, channel) one thread may send while another receives; threads that
// use different channels do not wait for each other. Replies come in the order of their requests. A carrier
// is made for so many requests of each (server, channel) under way at once: sent, and their reply not
// received.
class ClientTransport {
 public:
  virtual ~ClientTransport() = default;
  virtual std::uint32_t servers() const = 0;
  // Starts sending; does not wait. Throws TransportError where as many requests as may be are under way.
  virtual void send(std::uint32_t server, Channel channel, Bytes frame) = 0;
  // The reply to the oldest request under way, or nothing if the deadline passes first; then there is no use
  // in receiving again. Throws TransportError if the server has ended.
  virtual std::optional<Bytes> receive(std::uint32_t server, Channel channel, Deadline deadline) = 0;
};

inline constexpr const char* kTooManyUnderWay =
    "as many requests of this channel as may be are under way: a reply must be received first";

struct Incoming {
  Peer peer;
  Bytes frame;
  std::optional<RequestError> refused;  // by the carrier: then there is no frame, only this to answer
};

// The side of a server, used by its one thread. Of a peer, no further request of a channel is taken while
// the reply to the last one is not sent: it waits where its sender has to keep it. So a client that does not
// collect its replies stops its own requests and nobody else's.
class ServerTransport {
 public:
  virtual ~ServerTransport() = default;
  // The next request if there is one; else waits for a moment and returns nothing.
  virtual std::optional<Incoming> poll() = 0;
  virtual void send(Outgoing reply) = 0;
  // Waits until the replies are sent, or the deadline.
  virtual void flush(Deadline deadline) = 0;
  virtual Buffered buffered() const = 0;
};

// Serves until SHUTDOWN, or until `stop` is set (the request under way is finished first).
void serve(Server& server, ServerTransport& transport, const std::atomic<bool>& stop);

}  // namespace persia
