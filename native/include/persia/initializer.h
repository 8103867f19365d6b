// The weights a row has before any update.
#pragma once

#include <cstdint>
#include <span>

#include "persia/table_spec.h"

namespace persia {

// Fills `weights` as a pure function of (seed, id): the same on every server, at any time.
// With h(k) = mix64(mix64(id ^ mix64(seed)) + (k + 1) * 0x9E3779B97F4A7C15), element j is
//   uniform:        low + (high - low) * u, where u is the top 24 bits of h(j) as a fraction of 1
//   scaled_uniform: uniform with high = scale / sqrt(dim) and low = -high
//   normal:         mean + std * sqrt(-2 ln(1 - v)) * cos(2 pi w), where v and w are the top 53 bits of
//                   h(2 j) and h(2 j + 1) as fractions of 1 (Box, Muller 1958)
void initialise_weights(const InitializerSpec& spec, std::uint64_t seed, std::uint64_t id,
                        std::span<float> weights);

}  // namespace persia
