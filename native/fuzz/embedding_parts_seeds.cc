// Writes the inputs that the corpus of embedding_parts grows from: parts that a server has saved.
#include <iostream>
#include <iterator>

#include "configurations.h"
#include "persia/ids.h"
#include "sandbox.h"
#include "seed_file.h"
#include "session.h"

namespace persia::fuzz {
namespace {

// By requests, so that nothing but they need to stay as they are.
Bytes saved_part(const ConfigureRequest& configuration, std::uint64_t rows) {
  Session session;
  const auto ask = [&](MessageType type, const Bytes& payload) {
    session.request(type, 0, 0, 1, payload);
    if (!session.accepted()) throw std::logic_error(std::string(name_of(type)) + " was refused");
  };
  ask(MessageType::kConfigure, configuration.encode());
  LookupRequest lookup{0, true, {{0, {}}, {1, {}}}};
  for (std::uint64_t i = 0; lookup.tables[1].ids.size() < rows; ++i) {
    for (TableIds& table : lookup.tables) {
      const std::uint64_t id = std::uint64_t{table.table} << 63 | i * i;
      if (server_of(id, configuration.servers) == 0 && table.ids.size() < rows) table.ids.push_back(id);
    }
  }
  // Twice, for rows that are admitted late.
  for (std::uint64_t batch = 1; batch <= 2; ++batch) {
    lookup.batch = batch;
    ask(MessageType::kAdvanceDay, AdvanceDayRequest{static_cast<std::uint32_t>(batch)}.encode());
    ask(MessageType::kLookup, lookup.encode());
    const Bytes discard = DiscardRequest{batch}.encode();
    session.request(MessageType::kDiscard, 0, 0, 1, discard);
    if (!configuration.combine) continue;
    session.request(MessageType::kLookup, 1, 0, 1, LookupRequest{batch, true, {}}.encode());
    session.request(MessageType::kDiscard, 1, 0, 1, discard);
  }
  ask(MessageType::kSave, SaveRequest{"a"}.encode());
  std::ifstream file(Sandbox::instance().part(), std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  Writer writer;
  writer.array(std::span<const char>(content));
  return writer.take();
}

void write_seeds(const std::filesystem::path& folder) {
  const std::vector<ConfigureRequest> configurations = small_configurations();
  for (std::size_t c = 0; c < configurations.size(); ++c) {
    for (const std::uint64_t rows : {0U, 1U, 5U}) {
      Bytes seed{std::byte(c), std::byte(1)};
      const Bytes part = saved_part(configurations[c], rows);
      seed.insert(seed.end(), part.begin(), part.end());
      write_seed(folder, "configuration_" + std::to_string(c) + "_rows_" + std::to_string(rows), seed);
    }
  }
}

}  // namespace
}  // namespace persia::fuzz

int main(int count, char** values) try {
  if (count != 2) throw std::invalid_argument("usage: persia_fuzz_embedding_parts_seeds FOLDER");
  persia::fuzz::write_seeds(values[1]);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
