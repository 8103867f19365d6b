#include "persia/weight_type.h"

#include <cmath>
#include <limits>
#include <vector>

#include "check.h"
#include "helpers.h"
#include "persia/store.h"

namespace persia {

using testing::id;

namespace {

constexpr WeightType kNarrow[] = {WeightType::kBfloat16, WeightType::kFloat16};

// What 16 bits stand for, by their definition.
double value_of(WeightType type, std::uint32_t bits) {
  const int mantissa_bits = type == WeightType::kBfloat16 ? 7 : 10;
  const int bias = type == WeightType::kBfloat16 ? 127 : 15;
  const int mantissa = static_cast<int>(bits & ((1u << mantissa_bits) - 1));
  const int exponent = static_cast<int>((bits & 0x7FFF) >> mantissa_bits);
  const int whole = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  const double magnitude = std::ldexp(whole, std::max(exponent, 1) - bias - mantissa_bits);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

bool is_finite(WeightType type, std::uint32_t bits) {
  const std::uint32_t infinity = type == WeightType::kBfloat16 ? 0x7F80 : 0x7C00;
  return (bits & 0x7FFF) < infinity;
}

}  // namespace

TEST(numbers_of_16_bits_are_exact_in_float32_and_round_to_themselves) {
  for (const WeightType type : kNarrow) {
    const RowWeights one(type, 1);
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      auto stored = static_cast<std::uint16_t>(bits);
      auto* row = reinterpret_cast<std::byte*>(&stored);
      float wide = 0;
      one.read(row, &wide);
      CHECK(std::isfinite(wide) == is_finite(type, bits));
      if (!is_finite(type, bits)) continue;
      CHECK(wide == value_of(type, bits) && std::signbit(wide) == (bits >= 0x8000));
      std::uint16_t rounded = 0;
      CHECK(one.write_nearest(reinterpret_cast<std::byte*>(&rounded), &wide) == 0 && rounded == bits);
      CHECK(one.write_stochastic(reinterpret_cast<std::byte*>(&rounded), &wide, rounding_key(1, bits, 2)) ==
            0);
      CHECK(rounded == bits);
    }
  }
}

TEST(rows_of_any_width_are_rounded_element_by_element) {
  for (const WeightType type : kNarrow) {
    for (std::uint32_t dim = 1; dim <= 70; ++dim) {
      const RowWeights row(type, dim);
      std::vector<float> wide(dim), found(dim);
      for (std::uint32_t i = 0; i < dim; ++i) wide[i] = 0.37f * static_cast<float>(i) - 5.0f;
      std::vector<std::uint16_t> all(dim);
      const RoundingKey key = rounding_key(3, dim, 9);
      row.write_stochastic(reinterpret_cast<std::byte*>(all.data()), wide.data(), key);
      row.read(reinterpret_cast<const std::byte*>(all.data()), found.data());
      for (std::uint32_t i = 0; i < dim; ++i) {
        CHECK(std::abs(found[i] - wide[i]) <= std::abs(wide[i]) / (type == WeightType::kBfloat16 ? 64 : 512));
      }
      // The same bits, however wide the vectors are that the row was worked on with.
      std::vector<float> longer = wide;
      longer.resize(dim + 31);
      std::vector<std::uint16_t> more(dim + 31);
      RowWeights(type, dim + 31)
          .write_stochastic(reinterpret_cast<std::byte*>(more.data()), longer.data(), key);
      CHECK(std::equal(all.begin(), all.end(), more.begin()));
    }
  }
}

TEST(what_does_not_fit_is_counted_and_never_stored) {
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  for (const WeightType type : kNarrow) {
    const RowWeights row(type, 4);
    const std::vector<float> before{1, 2, 3, 4};
    const std::vector<float> wrong{kInfinite, -kInfinite, std::nanf(""), 0.5f};
    std::vector<std::uint16_t> stored(4);
    std::vector<float> found(4);
    row.write_nearest(reinterpret_cast<std::byte*>(stored.data()), before.data());
    CHECK(row.write_stochastic(reinterpret_cast<std::byte*>(stored.data()), wrong.data(), {1, 2}) == 3);
    row.read(reinterpret_cast<const std::byte*>(stored.data()), found.data());
    CHECK(std::isfinite(found[0]) && found[0] >= 65504 && found[1] == -found[0]);
    CHECK(found[2] == 3 && found[3] == 0.5f);
  }
}

TEST(a_store_of_narrow_rows_of_odd_width_keeps_its_state_apart) {
  for (const WeightType type : kNarrow) {
    TableSpec spec = testing::table("t", 1, 5);  // Adagrad: as much state as weights
    spec.weight_type = type;
    spec.capacity_bytes = 3 * (12 + 20 + kRowOverheadBytes);
    const auto store = make_store(spec, 3, 1);
    CHECK(capacity_rows(spec) == 3);
    const std::vector<std::uint64_t> ids{id(1, 1), id(1, 2), id(1, 3), id(1, 4)};
    std::vector<float> rows(20), gradients(20, 0.5f);
    store->lookup_training(ids, rows);
    const std::vector<const float*> each{&gradients[0], &gradients[5], &gradients[10], &gradients[15]};
    for (std::uint64_t step = 0; step < 3; ++step) store->update(ids, each, {1, step});
    CHECK(store->statistics().updates == 9 && store->statistics().updates_missing == 3);
    store->for_each(
        [&](std::uint64_t, std::span<const std::byte> weights, std::span<const float> state, std::uint32_t) {
          CHECK(weights.size() == 10 && state.size() == 5);
          for (const float sum : state) CHECK(sum == 0.75f);
        });
  }
}

}  // namespace persia
