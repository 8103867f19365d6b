// Changes to inputs: those that libFuzzer and AFL have found to be worth it.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace persia::fuzz {

using Input = std::vector<std::uint8_t>;
using Random = std::mt19937_64;

// A few changes in a row. `other` is spliced in now and then. At most `longest` bytes.
Input mutate(Input input, const Input& other, std::size_t longest, Random& random);

}  // namespace persia::fuzz
