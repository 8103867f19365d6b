// Work on numbered pieces, shared out among the threads of a team if there is one.
#pragma once

#include <cstdint>

#include "persia/thread_team.h"

namespace persia {

// Calls work(piece) for each piece from 0 to `pieces` - 1. Throws what one of them throws.
template <typename Work>
void on_all_threads(ThreadTeam* team, std::uint32_t pieces, Work&& work) {
  if (team == nullptr) {
    for (std::uint32_t piece = 0; piece < pieces; ++piece) work(piece);
    return;
  }
  team->run([&](std::uint32_t thread) {
    for (std::uint32_t piece = thread; piece < pieces; piece += team->size()) work(piece);
  });
}

}  // namespace persia
