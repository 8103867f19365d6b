#include "persia/heartbeat.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "check.h"
#include "helpers.h"

namespace persia {
namespace {

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST(a_heartbeat_goes_on_until_it_is_destroyed) {
  const auto path = std::filesystem::temp_directory_path() / ("heartbeat-" + std::to_string(::getpid()));
  {
    const Heartbeat heartbeat(path, std::chrono::milliseconds(1));
    const std::string first = content(path);
    CHECK(first.size() == 21 && first.back() == '\n');
    const std::string begun = content(path);
    while (content(path) == begun) std::this_thread::yield();
    CHECK(content(path).size() == 21);
  }
  const std::string last = content(path);
  CHECK(last > "00000000000000000001\n");
  std::filesystem::remove(path);
}

TEST(a_heartbeat_that_cannot_be_written_is_an_error) {
  CHECK_THROWS(std::system_error, Heartbeat("/nowhere/at/all"));
}

}  // namespace persia
