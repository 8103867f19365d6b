// The fuzzing engine for compilers that have no libFuzzer, with the flags of libFuzzer that are in use here:
// so that every target can be run alike. New inputs are written into the first folder of the command line.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>

#include "coverage.h"
#include "crash.h"
#include "mutation.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
namespace persia::fuzz {
namespace {

namespace fs = std::filesystem;

Input read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  Input input{std::istreambuf_iterator<char>(file), {}};
  if (!file.good() && !file.eof()) throw std::runtime_error(path.string() + ": cannot be read");
  return input;
}

void write(const fs::path& directory, const Input& input) {
  std::ofstream file(directory / name_of(input), std::ios::binary);
  file.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
  if (!file.good()) throw std::runtime_error(directory.string() + ": cannot be written to");
}

std::vector<Input> read_all(const std::vector<fs::path>& paths) {
  std::vector<Input> inputs;
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path)) {
      inputs.push_back(read(path));
      continue;
    }
    for (const auto& entry : fs::directory_iterator(path)) inputs.push_back(read(entry.path()));
  }
  // Small ones first, so that large ones must show something new.
  std::sort(inputs.begin(), inputs.end(), [](const Input& a, const Input& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  });
  return inputs;
}

// An exception that escapes the target is a crash.
void run_target(const Input& input) noexcept {
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

struct Arguments {
  std::map<std::string, long> flags{{"runs", -1},      {"max_total_time", 0}, {"seed", 1},
                                    {"max_len", 4096}, {"timeout", 25},       {"merge", 0}};
  std::string artifacts;
  std::vector<fs::path> paths;

  explicit Arguments(const std::vector<std::string>& arguments) {
    for (const std::string& argument : arguments) {
      const std::size_t equals = std::min(argument.find('='), argument.size());
      const std::string flag = argument.starts_with("-") ? argument.substr(1, equals - 1) : "";
      if (flag == "artifact_prefix") {
        artifacts = argument.substr(equals + 1);
      } else if (flags.contains(flag) && equals < argument.size()) {
        flags[flag] = std::stol(argument.substr(equals + 1));
      } else if (fs::exists(argument)) {
        paths.emplace_back(argument);
      } else {
        throw std::invalid_argument(argument + " is no flag, and no file or folder that exists");
      }
    }
  }
  // New inputs are written there.
  bool has_corpus() const { return !paths.empty() && fs::is_directory(paths[0]); }
};

class Engine {
 public:
  explicit Engine(Arguments arguments)
      : arguments_(std::move(arguments)), random_(static_cast<std::uint64_t>(arguments_.flags["seed"])) {}

  void replay() {
    const std::vector<Input> given = read_all(arguments_.paths);
    const bool merge = arguments_.flags["merge"] != 0;
    for (const Input& input : given) {
      const std::size_t edges = seen_.count();
      const bool differs = run(input);
      // A corpus that is kept for long is small: each input in it has an edge of its own.
      if (merge ? seen_.count() == edges : !differs) continue;
      if (merge) write(arguments_.paths.at(0), input);
      corpus_.push_back(input);
    }
    std::cout << "fuzz: " << given.size() << " inputs replayed, " << corpus_.size() << " of them differ, "
              << seen_.count() << " edges" << std::endl;
    // A test that replays must not pass because the corpus is gone.
    if (given.empty() && arguments_.flags["runs"] == 0)
      throw std::invalid_argument("there is no input to replay");
  }

  void fuzz() {
    if (corpus_.empty()) corpus_.emplace_back();
    const auto start = std::chrono::steady_clock::now();
    const long most_runs = arguments_.flags["runs"];
    const long most_seconds = arguments_.flags["max_total_time"];
    long runs = 0;
    double said = 0;
    double now = 0;
    while ((most_runs < 0 || runs < most_runs) &&
           (most_seconds == 0 || now < static_cast<double>(most_seconds))) {
      once();
      ++runs;
      now = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (now - said < 5) continue;
      said = now;
      say("", runs, now);
    }
    say("done, ", runs, now);
  }

 private:
  // True if the input did what none before did.
  bool run(const Input& input) {
    watch(input);
    ::alarm(static_cast<unsigned>(arguments_.flags["timeout"]));
    start_recording();
    run_target(input);
    coverage.recording = false;
    ::alarm(0);
    watched();
    return seen_.add();
  }

  void once() {
    // Half of the time one of the latest, which nobody has built upon yet.
    const std::size_t recent = random_() % std::min<std::size_t>(corpus_.size(), 32);
    const std::size_t any = random_() % corpus_.size();
    const Input& chosen = corpus_[random_() % 2 == 0 ? corpus_.size() - 1 - recent : any];
    const Input& other = corpus_[random_() % corpus_.size()];
    Input input = mutate(chosen, other, static_cast<std::size_t>(arguments_.flags["max_len"]), random_);
    if (!run(input)) return;
    if (arguments_.has_corpus()) write(arguments_.paths[0], input);
    corpus_.push_back(std::move(input));
  }

  void say(const char* what, long runs, double seconds) const {
    std::cout << "fuzz: " << what << runs << " runs in " << static_cast<long>(seconds) << " s, "
              << seen_.count() << " edges, " << corpus_.size() << " inputs" << std::endl;
  }

  Arguments arguments_;
  Random random_;
  SeenEdges seen_;
  std::vector<Input> corpus_;
};

}  // namespace
}  // namespace persia::fuzz

int main(int count, char** values) try {
  using namespace persia::fuzz;
  const Arguments arguments({values + 1, values + count});
  const bool only_files = !arguments.paths.empty() && !arguments.has_corpus();
  if (!only_files) keep_what_crashes(values[0], arguments.artifacts);
  Engine engine(arguments);
  engine.replay();
  if (!only_files && arguments.flags.at("merge") == 0) engine.fuzz();
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what()
            << "\n  usage, as of libFuzzer: [-runs=N] [-max_total_time=SECONDS] [-seed=N] [-max_len=BYTES] "
               "[-timeout=SECONDS] [-merge=1] [-artifact_prefix=PATH] CORPUS... or FILE...\n";
  return 2;
}
