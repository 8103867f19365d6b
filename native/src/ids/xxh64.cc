#include <algorithm>
#include <bit>
#include <cstring>

#include "persia/ids.h"

namespace persia {
namespace {

static_assert(std::endian::native == std::endian::little, "the hash and the wire are read in place");

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87ULL;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4FULL;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9ULL;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63ULL;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5ULL;

template <typename T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::uint64_t round(std::uint64_t lane, std::uint64_t input) {
  return std::rotl(lane + input * kPrime2, 31) * kPrime1;
}

void consume_stripe(std::array<std::uint64_t, 4>& lanes, const std::byte* stripe) {
  for (std::size_t i = 0; i < 4; ++i) lanes[i] = round(lanes[i], read<std::uint64_t>(stripe + 8 * i));
}

}  // namespace

Xxh64::Xxh64(std::uint64_t seed)
    : seed_(seed), lanes_{seed + kPrime1 + kPrime2, seed + kPrime2, seed, seed - kPrime1} {}

void Xxh64::update(std::span<const std::byte> data) {
  if (data.empty()) return;
  total_ += data.size();
  if (tail_size_ > 0) {
    const std::size_t taken = std::min(tail_.size() - tail_size_, data.size());
    std::memcpy(tail_.data() + tail_size_, data.data(), taken);
    tail_size_ += taken;
    data = data.subspan(taken);
    if (tail_size_ < tail_.size()) return;
    consume_stripe(lanes_, tail_.data());
    tail_size_ = 0;
  }
  // On lanes of its own: bytes may be anything, so those of the object would be stored at every stripe.
  std::array<std::uint64_t, 4> lanes = lanes_;
  for (; data.size() >= tail_.size(); data = data.subspan(tail_.size())) consume_stripe(lanes, data.data());
  lanes_ = lanes;
  if (!data.empty()) std::memcpy(tail_.data(), data.data(), data.size());
  tail_size_ = data.size();
}

std::uint64_t Xxh64::digest() const {
  std::uint64_t hash = seed_ + kPrime5;
  if (total_ >= tail_.size()) {
    hash = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) +
           std::rotl(lanes_[3], 18);
    for (const std::uint64_t lane : lanes_) hash = (hash ^ round(0, lane)) * kPrime1 + kPrime4;
  }
  hash += total_;
  const std::byte* at = tail_.data();
  const std::byte* const end = at + tail_size_;
  for (; end - at >= 8; at += 8)
    hash = std::rotl(hash ^ round(0, read<std::uint64_t>(at)), 27) * kPrime1 + kPrime4;
  if (end - at >= 4) {
    hash = std::rotl(hash ^ (read<std::uint32_t>(at) * kPrime1), 23) * kPrime2 + kPrime3;
    at += 4;
  }
  for (; at < end; ++at) hash = std::rotl(hash ^ (read<std::uint8_t>(at) * kPrime5), 11) * kPrime1;
  hash = (hash ^ (hash >> 33)) * kPrime2;
  hash = (hash ^ (hash >> 29)) * kPrime3;
  return hash ^ (hash >> 32);
}

std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed) {
  Xxh64 hash(seed);
  hash.update(data);
  return hash.digest();
}

}  // namespace persia
