// Which rows of a table have changed since its last cut, and which are gone: two bits a row, and 8 bytes for
// a row that was there at the cut and was removed since.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace persia {

// A cut sets apart what has changed so far, and counts anew. What was set apart is forgotten when the cut has
// been written, and counted again when it could not be.
class ChangeLog {
 public:
  // From now on; nothing has changed. `rows`: numbers that are in use.
  void start(std::uint64_t rows);
  bool is_on() const { return on_; }
  void touch(std::uint32_t row) {
    if (on_) [[unlikely]]
      set(touched_, row);
  }
  void create(std::uint32_t row);
  void remove(std::uint64_t id, std::uint32_t row);
  void cut();
  void settle(bool written);
  // Of what was set apart.
  bool was_touched(std::uint32_t row) const { return is_set(cut_.touched, row); }
  // Ids of rows that were removed; some may have a row again, some come twice.
  std::span<const std::uint64_t> removed() const { return cut_.removed; }
  std::uint64_t bytes() const;

 private:
  using Bits = std::vector<std::uint64_t>;
  struct Cut {
    Bits touched;
    Bits fresh;
    std::vector<std::uint64_t> removed;
  };
  static void set(Bits& bits, std::uint32_t row) { bits[row / 64] |= std::uint64_t{1} << row % 64; }
  static bool is_set(const Bits& bits, std::uint32_t row) {
    return row / 64 < bits.size() && (bits[row / 64] >> row % 64 & 1) != 0;
  }

  bool on_ = false;
  Bits touched_;  // by number of the row
  Bits fresh_;    // was not there at the last cut: that it is removed is nobody's business
  std::vector<std::uint64_t> removed_;
  Cut cut_;
};

}  // namespace persia
