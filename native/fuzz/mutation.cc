#include "mutation.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "coverage.h"

namespace persia::fuzz {
namespace {

// Where sizes, signs and exponents change.
constexpr std::array<std::uint64_t, 24> kIntegers{
    0,          1,          2,          3,          4,          16,         48,          127,
    128,        255,        256,        1024,       32767,      32768,      65535,       65536,
    0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000, ~std::uint64_t{0}};

class Mutator {
 public:
  Mutator(Input& input, const Input& other, Random& random) : input_(input), other_(other), random_(random) {}

  void once() {
    switch (below(10)) {
      case 0: at() ^= static_cast<std::uint8_t>(1U << below(8)); break;
      case 1: at() = static_cast<std::uint8_t>(below(256)); break;
      case 2: insert(Input(1 + below(16), static_cast<std::uint8_t>(below(256)))); break;
      case 3: erase(); break;
      case 4: insert(piece(input_)); break;
      case 5: insert(piece(other_)); break;
      case 6: overwrite(piece(below(2) == 0 ? input_ : other_)); break;
      case 7: overwrite_integer(kIntegers[below(kIntegers.size())], std::size_t{1} << below(4)); break;
      case 8: add(); break;
      case 9: compare(); break;
    }
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }
  std::uint8_t& at() { return input_[below(input_.size())]; }
  Input piece(const Input& from) {
    const std::size_t begin = below(from.size());
    const std::size_t most = std::min<std::size_t>(from.size() - begin, std::size_t{1} << below(9));
    return Input(from.begin() + static_cast<std::ptrdiff_t>(begin),
                 from.begin() + static_cast<std::ptrdiff_t>(begin + below(most + 1)));
  }
  void insert(const Input& bytes) {
    input_.insert(input_.begin() + static_cast<std::ptrdiff_t>(below(input_.size() + 1)), bytes.begin(),
                  bytes.end());
  }
  void erase() {
    const std::size_t begin = below(input_.size());
    const std::size_t size = std::min(input_.size() - begin, 1 + below(std::size_t{1} << below(9)));
    const auto from = input_.begin() + static_cast<std::ptrdiff_t>(begin);
    input_.erase(from, from + static_cast<std::ptrdiff_t>(size));
  }
  void overwrite(const Input& bytes) {
    const std::size_t begin = below(input_.size());
    const std::size_t size = std::min(bytes.size(), input_.size() - begin);
    std::copy_n(bytes.begin(), size, input_.begin() + static_cast<std::ptrdiff_t>(begin));
  }
  void overwrite_integer(std::uint64_t value, std::size_t bytes) {
    Input little(bytes);
    std::memcpy(little.data(), &value, bytes);
    overwrite(little);
  }
  void add() {
    const std::size_t bytes = std::min(std::size_t{1} << below(4), input_.size());
    const std::size_t begin = below(input_.size() - bytes + 1);
    std::uint64_t value = 0;
    std::memcpy(&value, input_.data() + begin, bytes);
    value += below(2) == 0 ? 1 + below(16) : ~std::uint64_t{0} - below(16);
    std::memcpy(input_.data() + begin, &value, bytes);
  }
  // The constant that a part of the input was compared with, in that part's place.
  void compare() {
    const std::size_t known = std::min(coverage.compared, kComparisons);
    if (known == 0) return;
    const Comparison& seen = coverage.comparisons[below(known)];
    Input value(seen.bytes);
    std::memcpy(value.data(), &seen.value, seen.bytes);
    std::vector<std::size_t> places;
    for (auto from = input_.begin();; ++from) {
      from = std::search(from, input_.end(), value.begin(), value.end());
      if (from == input_.end()) break;
      places.push_back(static_cast<std::size_t>(from - input_.begin()));
    }
    if (places.empty()) return overwrite_integer(seen.constant, seen.bytes);
    std::memcpy(input_.data() + places[below(places.size())], &seen.constant, seen.bytes);
  }

  Input& input_;
  const Input& other_;
  Random& random_;
};

}  // namespace

Input mutate(Input input, const Input& other, std::size_t longest, Random& random) {
  Mutator mutator(input, other, random);
  const std::size_t changes = std::size_t{1} << random() % 4;
  for (std::size_t i = 0; i < changes; ++i) {
    if (input.empty()) input.push_back(0);
    mutator.once();
  }
  if (input.size() > longest) input.resize(longest);
  return input;
}

}  // namespace persia::fuzz
