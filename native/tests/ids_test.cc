#include "persia/ids.h"

#include <stdexcept>
#include <string_view>

#include "check.h"

namespace persia {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

// Vectors from the xxHash reference implementation.
TEST(xxh64_golden) {
  CHECK(xxh64({}, 0) == 0xEF46DB3751D8E999ULL);
  CHECK(xxh64(bytes_of("a"), 0) == 0xD24EC4F1A98C6E5BULL);
  CHECK(xxh64(bytes_of("abc"), 0) == 0x44BC2CF5AD770999ULL);
  CHECK(xxh64(bytes_of("Nobody inspects the spammish repetition"), 0) == 0xFBCEA83C8A378BF1ULL);
}

TEST(xxh64_in_pieces_equals_one_shot) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += static_cast<char>(i);
  for (std::size_t size = 0; size <= text.size(); ++size) {
    const auto all = bytes_of(text).first(size);
    for (const std::size_t cut : {size / 3, size / 2, size}) {
      Xxh64 hash(7);
      hash.update(all.first(cut));
      hash.update(all.subspan(cut));
      CHECK(hash.digest() == xxh64(all, 7));
    }
  }
}

// The first outputs of SplitMix64 from state 0, which are mix64 of multiples of its increment.
TEST(mix64_golden) {
  CHECK(mix64(0x9E3779B97F4A7C15ULL) == 0xE220A8397B1DCDAFULL);
  CHECK(mix64(2 * 0x9E3779B97F4A7C15ULL) == 0x6E789E6AA1B965F4ULL);
  CHECK(mix64(3 * 0x9E3779B97F4A7C15ULL) == 0x06C45D188009454FULL);
}

TEST(ids_carry_their_prefix) {
  const std::uint64_t id = make_id(5, 8, bytes_of("value"));
  CHECK(id >> 56 == 5);
  CHECK((id & 0x00FFFFFFFFFFFFFFULL) == xxh64(bytes_of("value"), kIdSeed) >> 8);
  CHECK_THROWS(std::invalid_argument, make_id(256, 8, {}));
  CHECK_THROWS(std::invalid_argument, make_id(1, 0, {}));
  CHECK_THROWS(std::invalid_argument, make_id(1, 64, {}));
}

}  // namespace persia
