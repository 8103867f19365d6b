// Fuzz target: whatever file a server is told to LOAD, it takes it whole or refuses it without a change.
//
//   u8 configuration, u8 flags (1: put the right checksum into the file), then the file
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "configurations.h"
#include "persia/ids.h"
#include "persia/part_format.h"
#include "program.h"
#include "sandbox.h"
#include "session.h"
#include "violation.h"

namespace persia::fuzz {
namespace {

// Mutations of the data would all end at its checksum.
void correct_checksum(std::string& file) {
  constexpr std::string_view kKey = R"("data_xxh64":")";
  std::uint64_t header_size = 0;
  if (file.size() < sizeof header_size) return;
  std::memcpy(&header_size, file.data(), sizeof header_size);
  if (header_size > file.size() - sizeof header_size) return;
  const std::size_t data = sizeof header_size + header_size;
  const std::size_t key = file.find(kKey);
  if (key == file.npos || key + kKey.size() + 16 > data) return;
  file.replace(key + kKey.size(), 16, hex64(xxh64(std::as_bytes(std::span(file).subspan(data)), 0)));
}

void run(std::span<const std::byte> input) {
  static const std::vector<ConfigureRequest> configurations = small_configurations();
  Sandbox& sandbox = Sandbox::instance();
  ProgramReader program(input);
  const ConfigureRequest& configuration = configurations[program.byte() % configurations.size()];
  const bool correct = program.byte() % 2 == 1;
  const auto rest = program.rest();
  std::string file(reinterpret_cast<const char*>(rest.data()), rest.size());
  if (correct) correct_checksum(file);
  sandbox.clean();
  sandbox.write_part(std::as_bytes(std::span(file)));

  Session session;
  session.request(MessageType::kConfigure, 0, 2, 1, configuration.encode());
  session.request(MessageType::kLoad, 0, 2, 1, LoadRequest{{sandbox.part().string()}}.encode());
  if (!session.accepted()) return;
  require(LoadReply::decode(*session.accepted()).bytes == file.size(), "all of a part is read");
  // What was taken can be saved and, which the session sees to, loaded again.
  session.request(MessageType::kSave, 0, 2, 1, SaveRequest{"a"}.encode());
  require(session.accepted().has_value(), "what was loaded can be saved");
}

}  // namespace
}  // namespace persia::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  persia::fuzz::run(std::as_bytes(std::span(data, size)));
  return 0;
}
