// A seed of a corpus, as a file.
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "persia/codec.h"

namespace persia::fuzz {

inline void write_seed(const std::filesystem::path& folder, const std::string& name, const Bytes& bytes) {
  std::ofstream file(folder / name, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file.good()) throw std::runtime_error((folder / name).string() + ": cannot be written");
}

}  // namespace persia::fuzz
