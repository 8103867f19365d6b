// Arrays that nobody fills with zeros first, and floats that may lie within a frame.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace persia {

// Elements are what their memory happens to hold until they are written: zeros that are overwritten at once
// would cost a pass over each frame.
template <typename T>
class Unfilled : public std::allocator<T> {
 public:
  template <typename U>
  struct rebind {
    using other = Unfilled<U>;
  };
  template <typename U, typename... Arguments>
  void construct(U* at, Arguments&&... arguments) {
    if constexpr (sizeof...(Arguments) == 0) {
      ::new (static_cast<void*>(at)) U;
    } else {
      ::new (static_cast<void*>(at)) U(std::forward<Arguments>(arguments)...);
    }
  }
};

// Floats of its own, or a view of floats that must outlive it.
class Floats {
 public:
  Floats() = default;
  Floats(std::vector<float> values) : own_(std::move(values)) {}
  Floats(std::initializer_list<float> values) : own_(values) {}
  static Floats view(std::span<const float> values) {
    Floats floats;
    floats.view_ = values;
    return floats;
  }

  // From now on they are its own.
  void keep() {
    if (view_.data() == nullptr) return;
    own_.assign(view_.begin(), view_.end());
    view_ = {};
  }

  const float* data() const { return view_.data() != nullptr ? view_.data() : own_.data(); }
  std::size_t size() const { return view_.data() != nullptr ? view_.size() : own_.size(); }
  const float* begin() const { return data(); }
  const float* end() const { return data() + size(); }
  operator std::vector<float>() const { return {begin(), end()}; }

 private:
  std::vector<float> own_;
  std::span<const float> view_;
};

}  // namespace persia
