// Little-endian values to and from bytes, with a bounds check before every read.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "persia/error.h"
#include "persia/floats.h"

namespace persia {

static_assert(std::endian::native == std::endian::little, "values are copied as they lie in memory");

using Bytes = std::vector<std::byte, Unfilled<std::byte>>;

class Writer {
 public:
  explicit Writer(std::size_t reserved = 0) { bytes_.reserve(reserved); }

  template <typename T>
    requires std::is_arithmetic_v<T>
  void value(T v) {
    append(&v, sizeof v);
  }
  template <typename T>
  void array(std::span<const T> values) {
    append(values.data(), values.size_bytes());
  }
  void string(std::string_view text) {
    value(static_cast<std::uint32_t>(text.size()));
    append(text.data(), text.size());
  }
  Bytes take() { return std::move(bytes_); }
  std::size_t size() const { return bytes_.size(); }

 private:
  void append(const void* from, std::size_t size) {
    const auto* begin = static_cast<const std::byte*>(from);
    bytes_.insert(bytes_.end(), begin, begin + size);
  }
  Bytes bytes_;
};

// Throws RequestError(kMalformed) where the bytes end too early or hold what they must not.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <typename T>
    requires std::is_arithmetic_v<T>
  T value() {
    T v;
    std::memcpy(&v, take(sizeof v).data(), sizeof v);
    return v;
  }
  // The count is checked against the bytes that are there before anything is allocated.
  template <typename T>
  std::vector<T> array(std::uint64_t count) {
    if (count > rest_.size() / sizeof(T)) fail("an array reaches beyond the end");
    const auto from = take(static_cast<std::size_t>(count) * sizeof(T));
    std::vector<T> values(static_cast<std::size_t>(count));
    if (!from.empty()) std::memcpy(values.data(), from.data(), from.size());
    return values;
  }
  template <typename T>
  void read_into(std::span<T> values) {
    if (!values.empty()) std::memcpy(values.data(), take(values.size_bytes()).data(), values.size_bytes());
  }
  // A view of the bytes that are read, where they are aligned.
  Floats floats(std::uint64_t count) {
    if (count > rest_.size() / sizeof(float)) fail("an array reaches beyond the end");
    if (reinterpret_cast<std::uintptr_t>(rest_.data()) % alignof(float) != 0) return array<float>(count);
    const auto from = take(static_cast<std::size_t>(count) * sizeof(float));
    return Floats::view({reinterpret_cast<const float*>(from.data()), static_cast<std::size_t>(count)});
  }
  std::string string(std::size_t longest) {
    const auto size = value<std::uint32_t>();
    if (size > longest) fail("a string is too long");
    const auto from = take(size);
    return {reinterpret_cast<const char*>(from.data()), from.size()};
  }
  void zero() {
    if (value<std::uint32_t>() != 0) fail("a reserved field is not zero");
  }
  void end() const {
    if (!rest_.empty()) fail("bytes are left over");
  }
  std::size_t rest() const { return rest_.size(); }
  [[noreturn]] static void fail(const char* what) { throw RequestError(ErrorCode::kMalformed, what); }

 private:
  std::span<const std::byte> take(std::size_t size) {
    if (size > rest_.size()) fail("the payload ends too early");
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  std::span<const std::byte> rest_;
};

}  // namespace persia
