#include "persia/transport.h"

namespace persia {

void serve(Server& server, ServerTransport& transport, const std::atomic<bool>& stop) {
  constexpr auto kFlushTime = std::chrono::seconds(5);
  while (!server.stopped() && !stop.load(std::memory_order_relaxed)) {
    std::optional<Incoming> request = transport.poll();
    if (!request) continue;
    server.set_buffered(transport.buffered());
    if (request->refused) {
      transport.send(server.refuse(request->peer, *request->refused));
      continue;
    }
    for (Outgoing& reply : server.handle(request->peer, request->frame)) transport.send(std::move(reply));
  }
  transport.flush(Clock::now() + kFlushTime);
}

}  // namespace persia
