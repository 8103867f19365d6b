#include "persia/safetensors.h"

#include <algorithm>
#include <stdexcept>

namespace persia {
namespace {

constexpr std::size_t kMaxRank = 8;

[[noreturn]] void fail(const std::string& what) {
  throw std::invalid_argument(what);
}

// Exactly the JSON that a safetensors header may hold. No recursion, so depth is bounded by the grammar.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  SafetensorsHeader parse() {
    SafetensorsHeader header;
    object([&](const std::string& name) {
      if (name == "__metadata__") {
        if (!header.metadata.empty()) fail("__metadata__ is there twice");
        object([&](const std::string& key) {
          if (!header.metadata.emplace(key, string()).second) fail("metadata " + key + " is there twice");
        });
      } else if (!header.tensors.emplace(name, tensor()).second) {
        fail("tensor " + name + " is there twice");
      }
    });
    space();
    if (at_ != text_.size()) fail("the header goes on after its end");
    return header;
  }

 private:
  template <typename Member>
  void object(Member member) {
    expect('{');
    if (accept('}')) return;
    do {
      const std::string key = string();
      expect(':');
      member(key);
    } while (accept(','));
    expect('}');
  }

  Tensor tensor() {
    Tensor tensor;
    unsigned seen = 0;
    object([&](const std::string& key) {
      const unsigned bit = key == "dtype" ? 1 : key == "shape" ? 2 : key == "data_offsets" ? 4 : 0;
      if (bit == 0 || (seen & bit) != 0) fail("a tensor has the key " + key + " twice or should not have it");
      seen |= bit;
      if (bit == 1) {
        tensor.dtype = string();
        return;
      }
      const std::vector<std::uint64_t> values = numbers();
      if (bit == 2) {
        tensor.shape = values;
      } else {
        if (values.size() != 2) fail("data_offsets has not two numbers");
        tensor.begin = values[0];
        tensor.end = values[1];
      }
    });
    if (seen != 7) fail("a tensor lacks dtype, shape or data_offsets");
    return tensor;
  }

  std::vector<std::uint64_t> numbers() {
    std::vector<std::uint64_t> values;
    expect('[');
    if (accept(']')) return values;
    do {
      if (values.size() == kMaxRank) fail("a tensor has more than 8 dimensions");
      values.push_back(number());
    } while (accept(','));
    expect(']');
    return values;
  }

  std::uint64_t number() {
    space();
    std::uint64_t value = 0;
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      const auto digit = static_cast<std::uint64_t>(text_[at_++] - '0');
      if (value > (UINT64_MAX - digit) / 10) fail("a number does not fit in 64 bits");
      value = value * 10 + digit;
    }
    if (at_ == start) fail("a number is missing");
    if (at_ - start > 1 && text_[start] == '0') fail("a number starts with 0");
    return value;
  }

  std::string string() {
    expect('"');
    const std::size_t start = at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\\' || static_cast<unsigned char>(text_[at_]) < 0x20) fail("a string has an escape");
      ++at_;
    }
    if (at_ == text_.size()) fail("a string does not end");
    return std::string(text_.substr(start, at_++ - start));
  }

  void space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
  }
  bool accept(char c) {
    space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c))
      fail(std::string("the header is no JSON: expected ") + c + " at byte " + std::to_string(at_));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::uint64_t bytes_of(const std::string& name, const Tensor& tensor) {
  std::uint64_t bytes = element_bytes(tensor.dtype);
  if (bytes == 0) fail("tensor " + name + " has the unknown dtype " + tensor.dtype);
  for (const std::uint64_t extent : tensor.shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) fail("tensor " + name + " is impossibly large");
  }
  return bytes;
}

}  // namespace

std::uint64_t element_bytes(const std::string& dtype) {
  if (dtype == "BF16" || dtype == "F16") return 2;
  return dtype == "U64" ? 8 : dtype == "F32" ? 4 : dtype == "U8" ? 1 : 0;
}

std::string write_safetensors_header(const SafetensorsHeader& header) {
  std::string json = R"({"__metadata__":{)";
  const char* separator = "";
  for (const auto& [key, value] : header.metadata) {
    json += separator + ('"' + key) + R"(":")" + value + '"';
    separator = ",";
  }
  json += '}';
  for (const auto& [name, tensor] : header.tensors) {
    json += ",\"" + name + R"(":{"dtype":")" + tensor.dtype + R"(","shape":[)";
    separator = "";
    for (const std::uint64_t extent : tensor.shape) {
      json += separator + std::to_string(extent);
      separator = ",";
    }
    json += R"(],"data_offsets":[)" + std::to_string(tensor.begin) + ',' + std::to_string(tensor.end) + "]}";
  }
  json += '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  return json;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_size) {
  SafetensorsHeader header = HeaderParser(json).parse();
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (const auto& [name, tensor] : header.tensors) {
    if (tensor.begin > tensor.end || tensor.end - tensor.begin != bytes_of(name, tensor)) {
      fail("tensor " + name + " has data_offsets that do not fit its shape");
    }
    ranges.emplace_back(tensor.begin, tensor.end);
  }
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t at = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != at) fail("the tensors overlap or leave a gap");
    at = end;
  }
  if (at != data_size) {
    fail("the file holds " + std::to_string(data_size) + " bytes of data, its header says " +
         std::to_string(at));
  }
  return header;
}

}  // namespace persia
