#include "persia/background_save.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "persia/error.h"

namespace persia {
namespace {

constexpr int kReportTo = 3;  // the end of the pipe in the process that saves
constexpr int kOutOfMemoryFirst = 1000;
constexpr std::size_t kLongestText = 4096;

void close_if_open(int& descriptor) {
  if (descriptor >= 0) ::close(std::exchange(descriptor, -1));
}

// A report: u8 1, then a SAVE reply; or u8 0, u32 code, string text. It fits into a pipe, so nobody waits.
Bytes report_of(const std::function<SaveReply()>& work) {
  const auto failure = [](ErrorCode code, std::string_view text) {
    Writer writer;
    writer.value(std::uint8_t{0});
    writer.value(static_cast<std::uint32_t>(code));
    writer.string(text.substr(0, kLongestText));
    return writer.take();
  };
  try {
    const Bytes reply = work().encode();
    Writer writer;
    writer.value(std::uint8_t{1});
    writer.array(std::span<const std::byte>(reply));
    return writer.take();
  } catch (const RequestError& error) {
    return failure(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return failure(ErrorCode::kOutOfMemory, "the process that saves has no memory left");
  } catch (const std::exception& error) {
    return failure(ErrorCode::kInternal, error.what());
  }
}

// What the process of the save is: no server. Signals mean what they mean to any program, the connections of
// the server are closed, and when memory runs out it goes first.
void become_saver(pid_t server, int report_to) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != server) ::_exit(1);
  for (const int each : {SIGTERM, SIGINT, SIGHUP}) ::signal(each, SIG_DFL);
  ::signal(SIGXFSZ, SIG_IGN);  // then the write says so
  ::dup2(report_to, kReportTo);
  ::close_range(kReportTo + 1, ~0U, 0);
  const int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) {
    const std::string text = std::to_string(kOutOfMemoryFirst);
    [[maybe_unused]] const ssize_t written = ::write(score, text.data(), text.size());
    ::close(score);
  }
}

}  // namespace

BackgroundSave::BackgroundSave(std::filesystem::path temporary, const std::function<SaveReply()>& work)
    : temporary_(std::move(temporary)) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    throw RequestError(ErrorCode::kOutOfMemory, std::string("no pipe for a save: ") + std::strerror(errno));
  }
  const pid_t server = ::getpid();
  process_ = ::fork();
  if (process_ == 0) {
    become_saver(server, ends[1]);
    const Bytes report = report_of(work);
    const bool told = ::write(kReportTo, report.data(), report.size()) >= 0;
    ::_exit(told ? 0 : 1);  // nothing of the server is to be tidied up
  }
  const int error = errno;
  ::close(ends[1]);
  pipe_ = ends[0];
  if (process_ > 0) return;
  close_if_open(pipe_);
  throw RequestError(ErrorCode::kOutOfMemory,
                     std::string("no process for a save: ") + std::strerror(error) + "; save without one");
}

BackgroundSave::~BackgroundSave() {
  if (pipe_ < 0) return;
  ::kill(process_, SIGKILL);
  collect();
  remove_temporary();
}

std::optional<SaveReply> BackgroundSave::poll() {
  while (pipe_ >= 0) {
    std::array<std::byte, 4096> buffer;
    const ssize_t got = ::read(pipe_, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return std::nullopt;
    if (got > 0) {
      report_.insert(report_.end(), buffer.begin(), buffer.begin() + got);
      continue;
    }
    collect();
    if (report_.empty()) remove_temporary();
  }
  return outcome();
}

void BackgroundSave::collect() {
  close_if_open(pipe_);
  while (::waitpid(process_, &status_, 0) < 0 && errno == EINTR) {
  }
}

SaveReply BackgroundSave::outcome() const {
  if (report_.empty()) {
    const std::string how =
        WIFSIGNALED(status_) ? "ended by signal " + std::to_string(WTERMSIG(status_)) : "gone without a word";
    throw RequestError(ErrorCode::kSaveFailed,
                       temporary_.string() + ": the process that wrote it was " + how);
  }
  Reader reader(report_);
  if (reader.value<std::uint8_t>() == 1) return SaveReply::decode(std::span(report_).subspan(1));
  const auto code = static_cast<ErrorCode>(reader.value<std::uint32_t>());
  throw RequestError(code, reader.string(kLongestText));
}

void BackgroundSave::remove_temporary() const {
  ::unlink(temporary_.c_str());
}

}  // namespace persia
