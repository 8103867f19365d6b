#include "sandbox.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "persia/checkpoint.h"
#include "persia/safetensors.h"
#include "violation.h"

namespace persia::fuzz {
namespace {

std::size_t choice(const std::string& path, std::size_t choices) {
  return path.empty() ? 0 : static_cast<unsigned char>(path[0]) % choices;
}

}  // namespace

Sandbox& Sandbox::instance() {
  static Sandbox sandbox;
  return sandbox;
}

Sandbox::Sandbox() {
  std::string pattern = (std::filesystem::temp_directory_path() / "persia-fuzz-XXXXXX").string();
  require(::mkdtemp(pattern.data()) != nullptr, "a temporary directory can be made");
  root_ = pattern;
  directory_ = root_ / "parts";
  std::filesystem::create_directory(directory_);
}

Sandbox::~Sandbox() {
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

void Sandbox::clean() {
  std::filesystem::remove(part());
}

SaveRequest Sandbox::confine(const SaveRequest& request) const {
  return {(choice(request.directory, 4) == 3 ? root_ / "missing" : directory_).string()};
}

BeginSaveRequest Sandbox::confine(const BeginSaveRequest& request) const {
  return {confine(SaveRequest{request.directory}).directory, request.kind, request.cut};
}

LoadRequest Sandbox::confine(const LoadRequest& request) const {
  LoadRequest confined;
  for (const std::string& path : request.paths) {
    const std::size_t chosen = choice(path, 5);
    confined.paths.push_back((chosen == 3 ? root_ / "missing" : chosen == 4 ? directory_ : part()).string());
  }
  return confined;
}

void Sandbox::write_part(std::span<const std::byte> content) const {
  std::ofstream file(part(), std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  file.close();
  require(file.good(), "a file can be written into the temporary directory");
}

std::filesystem::path Sandbox::part() const {
  return directory_ / part_name(0);
}

bool Sandbox::part_is_finite() const {
  std::ifstream file(part(), std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  std::uint64_t header_size = 0;
  require(content.size() >= sizeof header_size, "a part has a header");
  std::memcpy(&header_size, content.data(), sizeof header_size);
  const std::size_t start = sizeof header_size + header_size;
  require(content.size() >= start, "the header of a part is in the part");
  const auto header =
      parse_safetensors_header(std::string_view(content).substr(8, header_size), content.size() - start);
  for (const auto& [name, tensor] : header.tensors) {
    if (tensor.dtype != "F32") continue;
    std::vector<float> values((tensor.end - tensor.begin) / sizeof(float));
    if (!values.empty())
      std::memcpy(values.data(), content.data() + start + tensor.begin, values.size() * sizeof(float));
    for (const float value : values) {
      if (!std::isfinite(value)) return false;
    }
  }
  return true;
}

bool Sandbox::has_temporary_file() const {
  return std::filesystem::exists(part().string() + ".tmp");
}

}  // namespace persia::fuzz
