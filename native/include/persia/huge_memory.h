// Large zeroed memory straight from the kernel, on huge pages where it has them.
#pragma once

#include <cstddef>
#include <utility>

namespace persia {

class HugeMemory {
 public:
  HugeMemory() = default;
  // Throws std::bad_alloc. The first `small_bytes` stay on small pages, which are taken one by one.
  explicit HugeMemory(std::size_t bytes, std::size_t small_bytes = 0);
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
