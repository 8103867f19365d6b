// The safetensors container (https://huggingface.co/docs/safetensors): 8 bytes header length, JSON, data.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace persia {

struct Tensor {
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  // within the data
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// Of U64, F32, BF16, F16 and U8; 0 of any other.
std::uint64_t element_bytes(const std::string& dtype);

inline constexpr std::uint64_t kMaxSafetensorsHeader = 16 << 20;

// The JSON text, padded with spaces to a multiple of 8 bytes.
std::string write_safetensors_header(const SafetensorsHeader& header);

// Parses and checks that the tensors lie one after another and fill `data_size` bytes exactly, each as
// large as its dtype (see element_bytes) and shape say. Strings with escapes are refused: no name of ours has
// one. Throws std::invalid_argument.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_size);

}  // namespace persia
