// A save on a snapshot, under the sanitizers, with and without a team of threads.
#include "persia/background_save.h"

#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <thread>

#include "check.h"
#include "helpers.h"
#include "persia/checkpoint.h"
#include "save_bench.h"

namespace persia {

using testing::Bench;
using testing::content_of;
using testing::finished;
using testing::train;

namespace {

bool has_children() {
  return ::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD;
}

}  // namespace

TEST(a_snapshot_is_what_save_would_have_written) {
  for (const std::uint32_t threads : {1U, 3U}) {
    const testing::TemporaryDirectory whole;
    const testing::TemporaryDirectory snapshot;
    Bench bench({testing::table("t", 1, 3)}, 1, 2, false, threads);
    train(bench, 1, 0);
    CHECK(bench.send(MessageType::kSave, SaveRequest{whole.path()}.encode()) == "OK");
    CHECK(bench.send(MessageType::kBeginSave, BeginSaveRequest{snapshot.path()}.encode()) == "OK");
    train(bench, 2, 100);
    CHECK(finished(bench).rows == 300);
    CHECK(content_of(snapshot.path() / part_name(0)) == content_of(whole.path() / part_name(0)));
    CHECK(!has_children());
  }
}

TEST(a_save_that_fails_says_why_and_a_shutdown_ends_one) {
  const testing::TemporaryDirectory directory;
  Bench bench({testing::table("t", 1, 3)});
  train(bench, 1, 0);
  CHECK(bench.send(MessageType::kBeginSave, BeginSaveRequest{directory.path() / "missing"}.encode()) == "OK");
  CHECK(finished(bench).name.empty());
  CHECK(bench.send(MessageType::kFinishSave, FinishSaveRequest{}.encode()) == "IO_ERROR");
  CHECK(bench.send(MessageType::kBeginSave, BeginSaveRequest{directory.path()}.encode()) == "OK");
  CHECK(bench.send(MessageType::kShutdown, {}) == "OK");
  CHECK(!has_children());
  CHECK(!std::filesystem::exists(temporary_part(directory.path(), 0)));
}

TEST(a_report_that_is_missing_is_an_error) {
  const testing::TemporaryDirectory directory;
  const std::filesystem::path temporary = directory.path() / "part.tmp";
  std::ofstream(temporary) << "half";
  BackgroundSave save(temporary, []() -> SaveReply { ::_exit(0); });
  try {
    while (!save.poll()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(false);
  } catch (const RequestError& error) {
    CHECK(error.code() == ErrorCode::kSaveFailed);
  }
  CHECK(!std::filesystem::exists(temporary));
}

}  // namespace persia
