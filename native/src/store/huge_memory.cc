#include "persia/huge_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace persia {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

std::byte* map(std::size_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(at);
}

}  // namespace

HugeMemory::HugeMemory(std::size_t bytes, std::size_t huge_from, std::size_t huge_to)
    : bytes_(round_up(bytes, kPage)) {
  if (bytes_ < kHugePage) {
    data_ = map(bytes_);
    return;
  }
  // Mapped with room to spare, of which what lies around the aligned part is given back.
  std::byte* start = map(bytes_ + kHugePage);
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(start) % kHugePage) % kHugePage;
  if (before > 0) ::munmap(start, before);
  if (before < kHugePage) ::munmap(start + before + bytes_, kHugePage - before);
  data_ = start + before;
  const std::size_t from = round_up(huge_from, kHugePage);
  const std::size_t to = huge_to / kHugePage * kHugePage;
  // A kernel without huge pages says no: then they are small.
  if (from < to) static_cast<void>(::madvise(data_ + from, to - from, MADV_HUGEPAGE));
}

HugeMemory::~HugeMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

}  // namespace persia
