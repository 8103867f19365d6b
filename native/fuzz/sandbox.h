// The one directory that fuzz targets read and write, whatever path a request names.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "persia/messages.h"

namespace persia::fuzz {

class Sandbox {
 public:
  static Sandbox& instance();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  ~Sandbox();

  // Without what earlier inputs saved.
  void clean();
  // The request with other paths: the directory that SAVE may use or one that cannot be written, the part
  // that lies there or no part. The first letter of a path chooses.
  SaveRequest confine(const SaveRequest& request) const;
  BeginSaveRequest confine(const BeginSaveRequest& request) const;
  LoadRequest confine(const LoadRequest& request) const;
  void write_part(std::span<const std::byte> content) const;
  std::filesystem::path part() const;
  bool part_is_finite() const;  // of a part that was written by a server
  // A write that was given up must leave nothing.
  bool has_temporary_file() const;

 private:
  Sandbox();
  std::filesystem::path root_;
  std::filesystem::path directory_;  // within root_: where parts are saved
};

}  // namespace persia::fuzz
