// Ids: the hash that makes them, and the mixing that spreads them over servers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace persia {

// XXH64 of the xxHash specification (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md),
// fed in pieces of any size.
class Xxh64 {
 public:
  explicit Xxh64(std::uint64_t seed);
  void update(std::span<const std::byte> data);
  std::uint64_t digest() const;

 private:
  std::uint64_t seed_;
  std::array<std::uint64_t, 4> lanes_;
  std::array<std::byte, 32> tail_{};
  std::size_t tail_size_ = 0;
  std::uint64_t total_ = 0;
};

std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed);

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64 bits.
constexpr std::uint64_t mix64(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

constexpr std::uint32_t server_of(std::uint64_t id, std::uint32_t servers) {
  return static_cast<std::uint32_t>(mix64(id) % servers);
}

inline constexpr std::uint64_t kIdSeed = 42;

// prefix in the top bits, XXH64(seed 42, value) >> prefix_bits below.
// Throws std::invalid_argument unless 1 <= prefix_bits <= 63 and prefix fits in them.
std::uint64_t make_id(std::uint64_t prefix, std::uint32_t prefix_bits, std::span<const std::byte> value);

}  // namespace persia
