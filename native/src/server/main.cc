// persia-embedding-server: one rank of the MPI job. Its rank in MPI_COMM_WORLD is its server index.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "persia/mpi_transport.h"
#include "persia/server.h"
#include "persia/transport.h"

namespace {

constexpr int kExitFatal = 1;
constexpr int kExitUsage = 2;
constexpr int kExitTerminated = 143;

constexpr const char* kHelp =
    "usage: persia-embedding-server [--help | --version]\n"
    "\n"
    "Holds a slice of the embedding tables of a training job. Started by mpiexec as the first ranks of the\n"
    "job, before the trainers; its rank is its server index. It is configured by the trainers.\n"
    "\n"
    "exit codes:\n"
    "    0  a trainer asked it to end\n"
    "    1  fatal error: one line on stderr says which, and the job is aborted\n"
    "    2  wrong command line\n"
    "  143  SIGTERM, or the process that started it is gone; the request under way was finished\n";

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

int run() {
  std::uint32_t rank = 0;
  try {
    persia::ensure_mpi();
    rank = persia::mpi_rank();
    persia::Server server(rank);
    serve(server, *persia::make_mpi_server(), terminated);
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
  if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "--version") == 0) {
    std::puts("persia-embedding-server " PERSIA_VERSION);
    return 0;
  }
  if (argc > 1) {
    std::fprintf(stderr, "persia-embedding-server: unknown argument %s\n%s", argv[1], kHelp);
    return kExitUsage;
  }
  struct sigaction action{};
  action.sa_handler = on_sigterm;
  ::sigaction(SIGTERM, &action, nullptr);
  end_with_parent();
  return run();
}
