// Base and deltas against a full part, under the sanitizers.
#include "check.h"
#include "helpers.h"
#include "persia/change_log.h"
#include "persia/checkpoint.h"
#include "save_bench.h"

namespace persia {

using testing::Bench;
using testing::content_of;
using testing::finished;
using testing::train;

namespace {

std::vector<TableSpec> tables() {
  TableSpec table = testing::table("t", 1, 3);
  table.capacity_bytes = 400 * (3 * 4 + 3 * 4 + 24);
  return {table};
}

}  // namespace

TEST(a_base_and_its_deltas_are_a_full_part) {
  for (const std::uint32_t threads : {1U, 3U}) {
    const testing::TemporaryDirectory directory;
    const auto folder = [&](const std::string& name) {
      const std::filesystem::path path = directory.path() / name;
      std::filesystem::create_directory(path);
      return path.string();
    };
    Bench bench(tables(), 1, 2, false, threads);
    LoadRequest load;
    for (std::uint64_t cut = 1; cut <= 4; ++cut) {
      const SaveKind kind = cut == 1 ? SaveKind::kBase : SaveKind::kDelta;
      train(bench, 2 * cut, 70 * cut);
      const BeginSaveRequest lost{directory.path() / "missing", kind, 100 + cut};
      CHECK(bench.send(MessageType::kBeginSave, lost.encode()) == "OK");
      train(bench, 2 * cut + 1, 60 * cut);
      CHECK(finished(bench).name.empty());
      const std::string place = folder(std::to_string(cut));
      CHECK(bench.send(MessageType::kBeginSave, BeginSaveRequest{place, kind, cut}.encode()) == "OK");
      CHECK(finished(bench).rows > 0);
      load.paths.insert(load.paths.begin(), place + "/" + part_name(0));
    }
    const std::string full = folder("full");
    CHECK(bench.send(MessageType::kSave, SaveRequest{full}.encode()) == "OK");
    Bench other(tables(), 1, 2, false, threads);
    CHECK(other.send(MessageType::kLoad, load.encode()) == "OK");
    const std::string again = folder("again");
    CHECK(other.send(MessageType::kSave, SaveRequest{again}.encode()) == "OK");
    CHECK(content_of(full + "/" + part_name(0)) == content_of(again + "/" + part_name(0)));
    CHECK(other.send(MessageType::kBeginSave, BeginSaveRequest{again, SaveKind::kDelta, 4}.encode()) ==
          "MALFORMED");
    CHECK(other.send(MessageType::kBeginSave, BeginSaveRequest{again, SaveKind::kDelta, 5}.encode()) == "OK");
    CHECK(finished(other).rows == 0);
    load.paths.erase(load.paths.begin() + 1);
    Bench gap(tables());
    CHECK(gap.send(MessageType::kLoad, load.encode()) == "PART_MISMATCH");
  }
}

TEST(a_log_forgets_what_was_written_and_nothing_else) {
  ChangeLog log;
  log.touch(1000);  // nobody asked for it
  log.start(3);
  log.touch(2);
  log.create(700);
  log.remove(77, 1);
  log.remove(78, 700);  // was not there at the cut
  log.cut();
  CHECK(log.was_touched(2) && log.was_touched(700) && !log.was_touched(1));
  CHECK(std::ranges::equal(log.removed(), std::vector<std::uint64_t>{77}));
  log.touch(0);
  log.settle(false);
  log.cut();
  CHECK(log.was_touched(0) && log.was_touched(2) && log.was_touched(700));
  CHECK(std::ranges::equal(log.removed(), std::vector<std::uint64_t>{77}));
  log.create(2000);
  log.settle(true);
  log.cut();
  CHECK(log.was_touched(2000) && !log.was_touched(0) && !log.was_touched(2));
  CHECK(log.removed().empty());
}

}  // namespace persia
