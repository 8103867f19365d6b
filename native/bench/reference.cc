// A plain embedding table, the yardstick of the store: a prefilled linear-probe table of ids, the rows
// (weights, then Adagrad state) at the same positions, prefetch 16 ahead, elementwise Adagrad. No insert,
// no eviction, no statistics, and a duplicate id takes an optimizer step of its own.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "huge_buffer.h"
#include "persia/ids.h"

namespace persia::bench {
namespace {

constexpr double kLoad = 0.85;  // rows are at the slots, so an empty slot costs a row

class Reference {
 public:
  // Row r gets ids[r], small weights and state 0. No id is 0: that is the empty slot.
  Reference(const std::uint64_t* ids, std::uint64_t rows, std::uint32_t dim)
      : slots_(static_cast<std::uint64_t>(static_cast<double>(rows) / kLoad) + 1),
        dim_(dim),
        ids_(slots_ + 1),
        rows_(slots_ * 2 * dim) {
    for (std::uint64_t r = 0; r < rows; ++r) {
      std::uint64_t at = first_slot(ids[r]);
      while (ids_[at] != 0) at = at + 1 == slots_ ? 0 : at + 1;
      ids_[at] = ids[r];
      float* row = row_at(at);
      const float weight = 0.01f * static_cast<float>(mix64(~ids[r]) >> 40) / 16777216.0f;
      for (std::uint32_t i = 0; i < dim; ++i) row[i] = i % 2 == 0 ? weight : -weight;
      std::memset(row + dim, 0, dim * sizeof(float));
    }
  }

  void lookup(const std::uint64_t* ids, std::size_t n, float* weights) const {
    each<false>(ids, n, dim_, [&](std::size_t i, const float* row) {
      std::memcpy(weights + i * dim_, row, dim_ * sizeof(float));
    });
  }

  void update(const std::uint64_t* ids, std::size_t n, const float* gradients, float learning_rate,
              float epsilon) const {
    each<true>(ids, n, 2 * dim_, [&](std::size_t i, float* __restrict row) {
      const float* __restrict gradient = gradients + i * dim_;
      float* __restrict state = row + dim_;
      for (std::uint32_t j = 0; j < dim_; ++j) {
        state[j] += gradient[j] * gradient[j];
        row[j] -= learning_rate * gradient[j] / (std::sqrt(state[j]) + epsilon);
      }
    });
  }

 private:
  std::uint64_t first_slot(std::uint64_t id) const {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(mix64(id)) * slots_) >> 64);
  }
  float* row_at(std::uint64_t slot) const { return rows_.data() + slot * 2 * dim_; }

  // The id's cache line is asked for 2 * kAhead ids before it is read, its row kAhead before.
  template <bool kWrite, typename Visit>
  void each(const std::uint64_t* ids, std::size_t n, std::size_t floats, Visit visit) const {
    std::array<float*, kAhead> found{};
    for (std::size_t i = 0; i < n + 2 * kAhead; ++i) {
      if (i < n) __builtin_prefetch(&ids_[first_slot(ids[i])]);
      if (i >= 2 * kAhead) visit(i - 2 * kAhead, found[i % kAhead]);
      if (i >= kAhead && i < n + kAhead) {
        const std::uint64_t id = ids[i - kAhead];
        std::uint64_t at = first_slot(id);
        while (ids_[at] != id) at = at + 1 == slots_ ? 0 : at + 1;
        found[i % kAhead] = row_at(at);
        prefetch<kWrite>(found[i % kAhead], floats);
      }
    }
  }

  std::uint64_t slots_;
  std::uint32_t dim_;
  HugeBuffer<std::uint64_t> ids_;
  HugeBuffer<float> rows_;
};

}  // namespace
}  // namespace persia::bench

using persia::bench::Reference;

extern "C" {

void* reference_new(const std::uint64_t* ids, std::uint64_t rows, std::uint32_t dim) {
  return new Reference(ids, rows, dim);
}
void reference_free(void* table) {
  delete static_cast<Reference*>(table);
}
void reference_lookup(void* table, const std::uint64_t* ids, std::uint64_t n, float* weights) {
  static_cast<Reference*>(table)->lookup(ids, n, weights);
}
void reference_update(void* table, const std::uint64_t* ids, std::uint64_t n, const float* gradients,
                      float learning_rate, float epsilon) {
  static_cast<Reference*>(table)->update(ids, n, gradients, learning_rate, epsilon);
}
}
