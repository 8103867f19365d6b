// The weights a row has before any update.
#pragma once

#include <cstdint>
#include <span>

#include "persia/table_spec.h"

namespace persia {

// Fills `weights` as a pure function of (seed, id): the same on every server, at any time.
// Element j of `uniform` is low + (high - low) * u, where u is the top 24 bits of
// mix64(mix64(id ^ mix64(seed)) + (j + 1) * 0x9E3779B97F4A7C15) as a fraction of 1.
void initialise_weights(const InitializerSpec& spec, std::uint64_t seed, std::uint64_t id,
                        std::span<float> weights);

}  // namespace persia
