#include <stdexcept>

#include "persia/ids.h"

namespace persia {

std::uint64_t make_id(std::uint64_t prefix, std::uint32_t prefix_bits, std::span<const std::byte> value) {
  if (prefix_bits < 1 || prefix_bits > 63) throw std::invalid_argument("prefix_bits must be from 1 to 63");
  if (prefix >> prefix_bits != 0) throw std::invalid_argument("prefix does not fit in prefix_bits");
  return prefix << (64 - prefix_bits) | xxh64(value, kIdSeed) >> prefix_bits;
}

}  // namespace persia
