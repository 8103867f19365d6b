// A carrier as slow as a network between hosts, for benchmarks on one host.
#pragma once

#include <memory>

#include "persia/transport.h"

namespace persia {

// A reply is received no earlier than `round_trip` after its request was sent. The thread that receives it
// sleeps; it holds up no other channel, and requests that are under way at once wait at once. Frames stay as
// they are. A `round_trip` of 0 gives `inner` itself.
std::unique_ptr<ClientTransport> delay_replies(std::unique_ptr<ClientTransport> inner,
                                               std::chrono::duration<double> round_trip);

}  // namespace persia
