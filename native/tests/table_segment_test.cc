// Tables that a server takes from a segment, against those that it reads from parts, under the sanitizers.
#include "persia/table_segment.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <utility>

#include "check.h"
#include "helpers.h"
#include "persia/checkpoint.h"
#include "save_bench.h"

namespace persia {

using testing::Bench;
using testing::content_of;
using testing::finished;

namespace {

constexpr std::size_t kStateAt = 12;  // in the header of a segment
constexpr std::size_t kHeaderBytesOfSegment = 104;

// Every way in which rows lie in memory, and all that a table remembers beside them.
std::vector<TableSpec> tables() {
  TableSpec full = testing::table("full", 1, 3);
  full.capacity_bytes = 400 * (3 * 4 + 3 * 4 + kRowOverheadBytes);
  TableSpec grouped = testing::table("grouped", 2, 16, OptimizerKind::kRowwiseAdagrad);
  TableSpec narrow = testing::table("narrow", 3, 5, OptimizerKind::kSgd);
  narrow.optimizer = {.kind = OptimizerKind::kSgd, .learning_rate = 0.5};
  narrow.weight_type = WeightType::kBfloat16;
  TableSpec rare = testing::table("rare", 4, 2);
  rare.admission = {.kind = AdmissionKind::kSightings, .count = 3};
  rare.max_age_days = 1;
  return {full, grouped, narrow, rare};
}

// A day of two batches, a function of its number.
void train_day(Bench& bench, std::uint32_t day) {
  CHECK(bench.send(MessageType::kAdvanceDay, AdvanceDayRequest{day}.encode()) == "OK");
  std::mt19937_64 random(day);
  for (std::uint64_t batch = 2 * day; batch < 2 * day + 2; ++batch) {
    LookupRequest lookup{batch, true, {}};
    UpdateRequest update{batch, {}};
    const std::vector<TableSpec> all = tables();
    for (std::uint32_t t = 0; t < all.size(); ++t) {
      std::vector<std::uint64_t> ids;
      for (int i = 0; i < 300; ++i) ids.push_back(testing::id(t + 1, random() % 700 + 40 * day));
      std::sort(ids.begin(), ids.end());
      ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
      std::vector<float> gradients(ids.size() * all[t].dim);
      for (float& each : gradients) each = static_cast<float>(random() % 1000) / 500.0F - 1;
      lookup.tables.push_back({t, ids});
      update.tables.push_back({t, all[t].dim, 1, std::move(ids), std::move(gradients)});
    }
    CHECK(bench.send(MessageType::kLookup, lookup.encode()) == "OK");
    CHECK(bench.send(MessageType::kUpdate, update.encode()) == "OK");
  }
}

class Place {
 public:
  std::string folder(const std::string& name) const {
    std::filesystem::create_directory(directory_.path() / name);
    return (directory_.path() / name).string();
  }
  std::string part(const std::string& name) const { return folder(name) + "/" + part_name(0); }
  std::filesystem::path segment() const { return segment_path(folder("segments"), 0); }

 private:
  testing::TemporaryDirectory directory_;
};

void cut(Bench& bench, const std::string& to, SaveKind kind = SaveKind::kFull, std::uint64_t number = 0) {
  CHECK(bench.send(MessageType::kBeginSave, BeginSaveRequest{to, kind, number}.encode()) == "OK");
  CHECK(!finished(bench).name.empty());
}

std::string saved(Bench& bench, const Place& place, const std::string& name) {
  CHECK(bench.send(MessageType::kSave, SaveRequest{place.folder(name)}.encode()) == "OK");
  return content_of(place.part(name));
}

std::string load(Bench& bench, const std::vector<std::string>& paths) {
  return bench.send(MessageType::kLoad, LoadRequest{paths}.encode());
}

}  // namespace

TEST(an_attached_table_goes_on_as_a_reloaded_one) {
  for (const std::uint32_t threads : {1U, 3U}) {
    const Place place;
    const std::string segments = place.folder("segments");
    Bench first(tables(), 1, 2, false, threads, segments);
    for (std::uint32_t day = 1; day <= 4; ++day) train_day(first, day);
    cut(first, place.folder("cut"), SaveKind::kBase, 1);
    CHECK(first.counter("segments.written") == 1 && first.counter("segments.failed") == 0);
    train_day(first, 5);  // of which the segment knows nothing

    Bench attached(tables(), 1, 2, false, threads, segments);
    Bench reloaded(tables(), 1, 2, false, threads);
    CHECK(load(attached, {place.part("cut")}) == "OK");
    CHECK(load(reloaded, {place.part("cut")}) == "OK");
    CHECK(attached.counter("segments.attached") == 1 && attached.counter("segments.refused") == 0);
    CHECK(attached.counter("step") == reloaded.counter("step"));
    CHECK(attached.counter("tables.full.rows") == 400 / threads * threads);  // evicts from now on
    CHECK(attached.counter("tables.rare.rows") > 0);
    CHECK(saved(attached, place, "a") == saved(reloaded, place, "b"));
    for (std::uint32_t day = 5; day <= 8; ++day) {
      train_day(attached, day);
      train_day(reloaded, day);
    }
    CHECK(saved(attached, place, "a") == saved(reloaded, place, "b"));
    cut(attached, place.folder("a"), SaveKind::kDelta, 2);
    cut(reloaded, place.folder("b"), SaveKind::kDelta, 2);
    CHECK(content_of(place.part("a")) == content_of(place.part("b")));

    // The segment is of the delta now, which stands for all of the rows.
    Bench later(tables(), 1, 2, false, threads, segments);
    CHECK(load(later, {place.part("cut"), place.part("a")}) == "OK");
    CHECK(later.counter("segments.attached") == 1);
    CHECK(saved(later, place, "c") == saved(reloaded, place, "d"));
  }
}

TEST(a_segment_that_is_not_of_the_cut_is_refused_and_the_parts_are_read) {
  const Place place;
  const std::string segments = place.folder("segments");
  Bench first(tables(), 1, 2, false, 1, segments);
  for (std::uint32_t day = 1; day <= 3; ++day) train_day(first, day);
  cut(first, place.folder("cut"));
  const std::string whole = content_of(place.segment());
  const auto put = [&](const std::string& bytes) {
    std::ofstream(place.segment(), std::ios::binary | std::ios::trunc) << bytes;
  };
  const auto refuses = [&](const std::vector<TableSpec>& configured, std::uint32_t threads = 1) {
    Bench bench(configured, 1, 2, false, threads, segments);
    CHECK(load(bench, {place.part("cut")}) == "OK");
    CHECK(bench.counter("segments.attached") == 0 && bench.counter("segments.refused") == 1);
    CHECK(!std::filesystem::exists(place.segment()));  // nobody takes it for one that will do
    Bench plain(configured, 1, 2, false, threads);
    CHECK(load(plain, {place.part("cut")}) == "OK");
    CHECK(saved(bench, place, "again") == saved(plain, place, "plain"));
  };

  std::string torn = whole;
  std::fill_n(torn.begin() + kStateAt, 4, '\0');
  std::vector<std::string> damaged{torn,
                                   "",
                                   whole.substr(0, 50),
                                   whole.substr(0, kHeaderBytesOfSegment),
                                   whole.substr(0, whole.size() / 2),
                                   whole.substr(0, whole.size() - 1),
                                   whole + '\0'};
  for (std::size_t at = 0; at < whole.size(); at += at < 200 ? 7 : whole.size() / 40) {
    damaged.push_back(whole);
    damaged.back()[at] = static_cast<char>(damaged.back()[at] ^ 0x10);
  }
  for (const std::string& bytes : damaged) {
    put(bytes);
    refuses(tables());
  }
  refuses(tables());
  std::filesystem::create_directory(place.segment());
  refuses(tables());

  put(whole);
  std::vector<TableSpec> other = tables();
  other[1].optimizer.learning_rate = 0.25;
  refuses(other);
  std::vector<TableSpec> unbounded = tables();
  unbounded[0].capacity_bytes = 0;
  put(whole);
  refuses(unbounded, 2);

  // Of a later cut, whose segment could not be written.
  train_day(first, 4);
  const std::string later = saved(first, place, "later");
  put(whole);
  Bench bench(tables(), 1, 2, false, 1, segments);
  CHECK(load(bench, {place.part("later")}) == "OK");
  CHECK(bench.counter("segments.refused") == 1);
  CHECK(saved(bench, place, "again") == later);

  // Of a job with fewer servers, or of another server.
  for (const std::uint32_t server : {0U, 1U}) {
    put(whole);
    if (server == 1) std::filesystem::rename(place.segment(), segment_path(segments, 1));
    Server two(server, {.segments = segments});
    std::uint64_t sequence = 0;
    const auto send = [&](MessageType type, const Bytes& payload) {
      return Bench::outcome(two.handle({0, 0}, make_frame({type, 0, 0, ++sequence}, payload)).at(0).frame);
    };
    CHECK(send(MessageType::kConfigure, ConfigureRequest{server, 2, 1, 2, false, 11, tables()}.encode()) ==
          "OK");
    CHECK(step_of_segment(segment_path(segments, server)).has_value());
    CHECK(send(MessageType::kLoad, LoadRequest{{place.part("cut")}}.encode()) == "OK");
    CHECK(!step_of_segment(segment_path(segments, server)));
  }
}

TEST(a_cut_is_whole_where_its_segment_cannot_be_written) {
  const Place place;
  Bench bench(tables(), 1, 2, false, 1, place.folder("segments") + "/missing");
  train_day(bench, 1);
  cut(bench, place.folder("cut"));
  CHECK(bench.counter("segments.written") == 0 && bench.counter("segments.failed") == 1);
  CHECK(content_of(place.part("cut")) == saved(bench, place, "again"));
}

}  // namespace persia
