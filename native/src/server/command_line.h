// The options of persia-embedding-server.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "persia/mpi_transport.h"

namespace persia {

struct CommandLine {
  enum class Action { kServe, kHelp, kVersion, kWrong };
  Action action = Action::kServe;
  std::string wrong;  // what is wrong
  std::uint32_t threads = 1;
  std::uint32_t workers_per_rank = 1;
  std::uint64_t max_buffered_bytes = kDefaultMaxBufferedBytes;
  bool idle_priority = false;
  std::string segments;  // a directory, or empty
};

CommandLine parse_command_line(std::span<char* const> arguments);

extern const char* const kHelp;

}  // namespace persia
