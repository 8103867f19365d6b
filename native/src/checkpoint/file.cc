#include "persia/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "persia/error.h"

namespace persia {

void fail_io(const char* operation, const std::filesystem::path& path, int error) {
  const std::string where = path.string() + ": cannot " + operation + ": ";
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    throw RequestError(ErrorCode::kNoSpace,
                       where + "no space left (" + std::generic_category().message(error) + ")");
  }
  throw RequestError(ErrorCode::kIo, where + std::generic_category().message(error));
}

File File::create(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) fail_io("create", path, errno);
  return {descriptor, path};
}

File File::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) fail_io("open", path, errno);
  File file(descriptor, path);
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) fail_io("inspect", path, errno);
  if (!S_ISREG(status.st_mode)) throw RequestError(ErrorCode::kIo, path.string() + ": is no regular file");
  return file;
}

File File::open_or_create(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  if (descriptor < 0) fail_io("create", path, errno);
  return {descriptor, path};
}

void File::sync_directory(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_io("open", path, errno);
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  if (result != 0) fail_io("sync", path, error);
}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void File::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("write", path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void File::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_io("write", path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
}

void File::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t got = ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_io("read", path_, errno);
    if (got == 0) throw RequestError(ErrorCode::kCorruptPart, path_.string() + ": the file ends too early");
    bytes = bytes.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

std::uint64_t File::size() const {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) fail_io("inspect", path_, errno);
  return static_cast<std::uint64_t>(status.st_size);
}

void File::truncate(std::uint64_t size) {
  if (::ftruncate(descriptor_, static_cast<off_t>(size)) != 0) fail_io("truncate", path_, errno);
}

void File::sync_and_close() {
  if (::fsync(descriptor_) != 0) fail_io("sync", path_, errno);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_io("close", path_, errno);
}

}  // namespace persia
