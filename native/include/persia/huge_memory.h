// Large zeroed memory straight from the kernel, on huge pages where it has them.
#pragma once

#include <cstddef>
#include <utility>

namespace persia {

class HugeMemory {
 public:
  HugeMemory() = default;
  // Huge pages where whole ones fit into [huge_from, huge_to), small ones around them. Pages are taken when
  // they are first written, a huge one as a whole. Throws std::bad_alloc.
  HugeMemory(std::size_t bytes, std::size_t huge_from, std::size_t huge_to);
  explicit HugeMemory(std::size_t bytes) : HugeMemory(bytes, 0, bytes) {}
  HugeMemory(HugeMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  HugeMemory& operator=(HugeMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;
  ~HugeMemory();

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  static constexpr std::size_t kHugePage = std::size_t{2} << 20;

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace persia
