// Memory in huge pages, as the store has it: without them random rows lose up to half of their speed.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace persia::bench {

template <typename T>
class HugeBuffer {
 public:
  // Zeros; takes memory only where it is written.
  explicit HugeBuffer(std::size_t size) : bytes_(size * sizeof(T)) {
    void* at = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    ::madvise(at, bytes_, MADV_HUGEPAGE);  // a kernel without them runs the benchmark too, only slower
    data_ = static_cast<T*>(at);
  }
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;
  ~HugeBuffer() { ::munmap(data_, bytes_); }
  T* data() const { return data_; }
  T& operator[](std::size_t i) const { return data_[i]; }

 private:
  std::size_t bytes_;
  T* data_ = nullptr;
};

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kAhead = 16;  // rows that are prefetched ahead of the one in hand

template <bool kWrite>
void prefetch(const float* at, std::size_t floats) {
  constexpr std::size_t kStep = kCacheLine / sizeof(float);
  for (std::size_t i = 0; i < floats; i += kStep) __builtin_prefetch(at + i, kWrite ? 1 : 0, 3);
}

}  // namespace persia::bench
