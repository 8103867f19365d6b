// Files whose errors name the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace persia {

// Throws RequestError: kNoSpace where the disk, the quota or the file size limit is used up, else kIo.
class File {
 public:
  static File create(const std::filesystem::path& path);  // must not exist
  static File open(const std::filesystem::path& path);    // to read; a regular file
  // To write, for its owner alone; a regular file, or none yet. What it holds stays.
  static File open_or_create(const std::filesystem::path& path);
  static void sync_directory(const std::filesystem::path& path);

  File(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File& operator=(File&&) = delete;
  ~File();

  void append(std::span<const std::byte> bytes);
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  // Throws RequestError(kCorruptPart) if the file ends before.
  void read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  std::uint64_t size() const;
  void truncate(std::uint64_t size);
  void sync_and_close();

 private:
  File(int descriptor, std::filesystem::path path) : descriptor_(descriptor), path_(std::move(path)) {}
  int descriptor_;
  std::filesystem::path path_;
};

[[noreturn]] void fail_io(const char* operation, const std::filesystem::path& path, int error);

}  // namespace persia
