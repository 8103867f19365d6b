// Servers as threads of this process, for tests, for one-host use and for benchmarks.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "persia/transport.h"

namespace persia {

class InProcessGroup {
 public:
  virtual ~InProcessGroup() = default;  // ends the servers
  // Of each server and channel, at most `under_way` requests at once.
  virtual std::unique_ptr<ClientTransport> connect(std::uint32_t under_way = 1) = 0;

  // Each server with so many threads. They keep their tables in `segments`, unless it is empty. Throws as
  // ThreadTeam.
  static std::shared_ptr<InProcessGroup> create(std::uint32_t servers, std::uint32_t threads = 1,
                                                const std::filesystem::path& segments = {});
  // The group called `name`, created if no worker has it open; all of its workers share the servers.
  // Throws std::invalid_argument if it has another number of servers or threads.
  static std::shared_ptr<InProcessGroup> open(const std::string& name, std::uint32_t servers,
                                              std::uint32_t threads = 1);
};

}  // namespace persia
