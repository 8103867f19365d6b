#include "command_line.h"

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

#include "persia/thread_team.h"

namespace persia {
namespace {

template <typename Number>
std::optional<Number> number(std::string_view text, Number least, Number most) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (value < least || value > most) return std::nullopt;
  return value;
}

CommandLine wrong(const std::string& what) {
  CommandLine line;
  line.action = CommandLine::Action::kWrong;
  line.wrong = what;
  return line;
}

}  // namespace

const char* const kHelp =
    "usage: persia-embedding-server [--threads N] [--workers-per-rank N] [--max-buffered-bytes N]\n"
    "                               [--priority normal|idle] [--segments DIRECTORY]\n"
    "       persia-embedding-server --help | --version\n"
    "\n"
    "Holds a slice of the embedding tables of a training job. Started by mpiexec as the first ranks of the\n"
    "job, before the trainers; its rank is its server index. It is configured by the trainers.\n"
    "\n"
    "  --threads N    that work on the rows, 1 to 256; each owns a part of every table (default 1)\n"
    "  --workers-per-rank N\n"
    "                 embedding workers that a rank may have, 1 to 1024 (default 1)\n"
    "  --max-buffered-bytes N\n"
    "                 of requests that are coming in and replies that are going out (default 8 GiB)\n"
    "  --priority normal|idle\n"
    "                 idle: run only on cores that nothing else on the host wants (default normal)\n"
    "  --segments DIRECTORY\n"
    "                 in memory, where the tables are kept with each cut, for a server that is started "
    "again\n"
    "\n"
    "exit codes:\n"
    "    0  a trainer asked it to end\n"
    "    1  fatal error: one line on stderr says which, and the job is aborted\n"
    "    2  wrong command line\n"
    "  143  SIGTERM, or the process that started it is gone; the request under way was finished\n";

CommandLine parse_command_line(std::span<char* const> arguments) {
  CommandLine line;
  if (arguments.size() == 1) {
    const std::string_view only = arguments[0];
    if (only == "--help") line.action = CommandLine::Action::kHelp;
    if (only == "--version") line.action = CommandLine::Action::kVersion;
    if (line.action != CommandLine::Action::kServe) return line;
  }
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const std::string name = arguments[i];
    if (name != "--threads" && name != "--workers-per-rank" && name != "--max-buffered-bytes" &&
        name != "--priority" && name != "--segments") {
      return wrong("unknown argument " + name);
    }
    if (i + 1 == arguments.size()) return wrong(name + " needs a value");
    const std::string text = arguments[i + 1];
    if (name == "--threads") {
      const auto threads = number<std::uint32_t>(text, 1, kMaxThreads);
      if (!threads) return wrong("--threads must be from 1 to 256, not " + text);
      line.threads = *threads;
    } else if (name == "--workers-per-rank") {
      const auto workers = number<std::uint32_t>(text, 1, kMaxWorkersPerRank);
      if (!workers) return wrong("--workers-per-rank must be from 1 to 1024, not " + text);
      line.workers_per_rank = *workers;
    } else if (name == "--segments") {
      if (text.empty()) return wrong("--segments must name a directory");
      line.segments = text;
    } else if (name == "--priority") {
      if (text != "normal" && text != "idle") return wrong("--priority must be normal or idle, not " + text);
      line.idle_priority = text == "idle";
    } else {
      const auto bytes = number<std::uint64_t>(text, 1, ~std::uint64_t{0});
      if (!bytes) return wrong("--max-buffered-bytes must be a number above 0, not " + text);
      line.max_buffered_bytes = *bytes;
    }
  }
  return line;
}

}  // namespace persia
