// persia-embedding-server: one rank of the MPI job. Its rank in MPI_COMM_WORLD is its server index.
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <string>

#include "command_line.h"
#include "persia/heartbeat.h"
#include "persia/mpi_transport.h"
#include "persia/server.h"
#include "persia/transport.h"

namespace {

constexpr int kExitFatal = 1;
constexpr int kExitUsage = 2;
constexpr int kExitTerminated = 143;

std::atomic<bool> terminated = false;
static_assert(std::atomic<bool>::is_always_lock_free, "the signal handler sets it");

void on_sigterm(int) {
  terminated.store(true, std::memory_order_relaxed);
}

std::string hostname() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

// The server must not outlive mpiexec's daemon, even if that is killed by SIGKILL.
void end_with_parent() {
  const pid_t parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) terminated = true;
}

// Before any other thread starts: they inherit it. Whoever has the rights of a user may lower its own
// priority.
void run_when_idle() {
  const sched_param none{};
  ::sched_setscheduler(0, SCHED_IDLE, &none);
}

int run(const persia::CommandLine& line) {
  std::uint32_t rank = 0;
  std::optional<persia::Heartbeat> heartbeat;
  try {
    // It must get a core when all are busy.
    if (const char* path = std::getenv(persia::kHeartbeatVariable)) heartbeat.emplace(path);
    if (line.idle_priority) run_when_idle();
    persia::ensure_mpi();
    rank = persia::mpi_rank();
    const auto transport = persia::make_mpi_server(line.max_buffered_bytes, line.workers_per_rank);
    persia::Server server(rank, {line.threads, transport->max_frame_bytes(), line.segments});
    serve(server, *transport, terminated);
    if (server.stopped()) {
      persia::finalize_mpi();
      return 0;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "persia-embedding-server rank %u on %s: %s\n", rank, hostname().c_str(),
                 error.what());
    persia::abort_job(kExitFatal);
  }
  std::fprintf(stderr, "persia-embedding-server rank %u on %s: ended by SIGTERM\n", rank, hostname().c_str());
  persia::abort_job(kExitTerminated);
}

}  // namespace

int main(int argc, char** argv) {
  using persia::CommandLine;
  const std::span<char* const> all(argv, static_cast<std::size_t>(argc));
  const CommandLine line = persia::parse_command_line(all.subspan(all.empty() ? 0 : 1));
  switch (line.action) {
    case CommandLine::Action::kHelp: std::fputs(persia::kHelp, stdout); return 0;
    case CommandLine::Action::kVersion: std::puts("persia-embedding-server " PERSIA_VERSION); return 0;
    case CommandLine::Action::kWrong:
      std::fprintf(stderr, "persia-embedding-server: %s\n%s", line.wrong.c_str(), persia::kHelp);
      return kExitUsage;
    case CommandLine::Action::kServe: break;
  }
  struct sigaction action{};
  action.sa_handler = on_sigterm;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &action, nullptr);
  end_with_parent();
  return run(line);
}
