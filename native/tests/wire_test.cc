#include <cmath>
#include <limits>

#include "check.h"
#include "helpers.h"

namespace persia {

using testing::Bench;
using testing::id;

namespace {

std::string hex(const Bytes& bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

}  // namespace

// The worked example of docs/formats/wire.md.
TEST(golden_payloads_of_a_save_on_a_snapshot) {
  CHECK(hex(BeginSaveRequest{"/a"}.encode()) ==
        "020000002f61"
        "00000000"
        "0000000000000000");
  CHECK(hex(BeginSaveRequest{"/a", SaveKind::kDelta, 7}.encode()) ==
        "020000002f61"
        "02000000"
        "0700000000000000");
  const Bytes without_cut = BeginSaveRequest{"/a", SaveKind::kBase, 0}.encode();
  CHECK_THROWS(RequestError, BeginSaveRequest::decode(without_cut));
  CHECK(hex(FinishSaveRequest{}.encode()) == "00000000");
  CHECK(hex(FinishSaveRequest{true}.encode()) == "01000000");
  CHECK(hex(FinishSaveReply{}.encode()) ==
        "00000000"
        "0000000000000000"
        "0000000000000000"
        "00000000");
  CHECK(hex(FinishSaveReply{true, {"x", 5, 6}}.encode()) ==
        "01000000"
        "0500000000000000"
        "0600000000000000"
        "0100000078");
  Bytes early = FinishSaveReply{true, {"x", 5, 6}}.encode();
  early[0] = std::byte{0};
  CHECK_THROWS(RequestError, FinishSaveReply::decode(early));
  early[0] = std::byte{2};
  CHECK_THROWS(RequestError, FinishSaveReply::decode(early));
}

TEST(golden_frames) {
  const Bytes lookup = make_frame({MessageType::kLookup, 1, 0, 7},
                                  LookupRequest{3, true, {{0, {0x0100000000000005ULL}}}}.encode());
  CHECK(hex(lookup) ==
        "50525341"
        "0300"
        "0200"
        "00000000"
        "01000000"
        "00000000"
        "00000000"
        "0700000000000000"
        "2800000000000000"
        "878f16f5879285f2"
        "0300000000000000"
        "01000000"
        "01000000"
        "00000000"
        "00000000"
        "0100000000000000"
        "0500000000000001");
  const Bytes error = make_error({MessageType::kLookup, 1, 0, 7}, ErrorCode::kStalenessExceeded, "no");
  CHECK(hex(error) ==
        "50525341"
        "0300"
        "8100"
        "00000000"
        "01000000"
        "00000000"
        "00000000"
        "0700000000000000"
        "0a00000000000000"
        "004f099f96a550fd"
        "12000000"
        "02000000"
        "6e6f");
  const Bytes update = make_frame({MessageType::kUpdate, 1, 0, 8},
                                  UpdateRequest{3, {{0, 2, 0.5, {0x0100000000000005ULL}, {1, -2}}}}.encode());
  CHECK(hex(update) ==
        "50525341"
        "0300"
        "0300"
        "00000000"
        "01000000"
        "00000000"
        "00000000"
        "0800000000000000"
        "3800000000000000"
        "8e5af89e37687a20"
        "0300000000000000"
        "01000000"
        "00000000"
        "00000000"
        "02000000"
        "000000000000e03f"
        "0100000000000000"
        "0500000000000001"
        "0000803f"
        "000000c0");
  // The same in float16, as the next request: 8192 and -16384 times 2^-13.
  const UpdateRequest narrow{3, {{0, 2, 0.5, {0x0100000000000005ULL}, {1, -2}}}, WeightType::kFloat16};
  CHECK(hex(make_frame({MessageType::kUpdate, 1, 0, 9}, narrow.encode())) ==
        "50525341"
        "0300"
        "0300"
        "00000000"
        "01000000"
        "00000000"
        "00000000"
        "0900000000000000"
        "3800000000000000"
        "3a48a7c42db4f5a2"
        "0300000000000000"
        "01000000"
        "02000000"
        "00000000"
        "02000000"
        "000000000000e03f"
        "0100000000000000"
        "0500000000000001"
        "00000039"
        "0070"
        "00f4");
}

TEST(every_flipped_byte_is_refused_and_changes_nothing) {
  Bench bench({testing::table("t", 1, 2)});
  const Bytes frame = make_frame({MessageType::kLookup, 0, 0, 1000},
                                 LookupRequest{1, true, {{0, {id(1, 5), id(1, 6)}}}}.encode());
  for (std::size_t at = 0; at < frame.size(); ++at) {
    for (const int mask : {0x01, 0x80, 0xFF}) {
      Bytes damaged = frame;
      damaged[at] ^= std::byte(mask);
      CHECK(Bench::outcome(bench.server.handle({}, damaged).at(0).frame) != "OK");
    }
  }
  const std::uint64_t truncated = bench.counter("errors.TRUNCATED");
  for (std::size_t size = 0; size < frame.size(); ++size) {
    const Bytes cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(Bench::outcome(bench.server.handle({}, cut).at(0).frame) == "TRUNCATED");
  }
  Bytes longer = frame;
  longer.push_back(std::byte{0});
  CHECK(Bench::outcome(bench.server.handle({}, longer).at(0).frame) == "BAD_LENGTH");
  CHECK(bench.counter("tables.t.rows") == 0);
  CHECK(bench.counter("errors.TRUNCATED") == truncated + frame.size());
  CHECK(Bench::outcome(bench.server.handle({}, frame).at(0).frame) == "OK");
  CHECK(Bench::outcome(bench.server.handle({}, frame).at(0).frame) == "REPLAYED");
  CHECK(bench.server.handle({}, frame).size() == 1);
}

// Right checksums around wrong payloads: cut at every length, and with every 32-bit word made huge.
TEST(malformed_payloads_are_refused) {
  const std::vector<TableSpec> tables{testing::table("t", 1, 2), testing::table("u", 2, 3)};
  const std::vector<std::pair<MessageType, Bytes>> requests{
      {MessageType::kConfigure, ConfigureRequest{0, 1, 1, 2, false, 11, tables}.encode()},
      {MessageType::kLookup, LookupRequest{9, true, {{0, {id(1, 5)}}, {1, {id(2, 5)}}}}.encode()},
      {MessageType::kUpdate, UpdateRequest{5, {{0, 2, 0.5, {id(1, 5)}, {1, 2}}}}.encode()},
      {MessageType::kDiscard, DiscardRequest{9}.encode()},
      {MessageType::kSave, SaveRequest{"/nonexistent/x"}.encode()},
      {MessageType::kAdvanceDay, AdvanceDayRequest{9}.encode()},
      {MessageType::kLoad, LoadRequest{{"/nonexistent/x", "/nonexistent/y"}}.encode()},
  };
  for (const auto& [type, payload] : requests) {
    Bench bench(tables);
    CHECK(bench.send(MessageType::kLookup, LookupRequest{5, true, {{0, {id(1, 5)}}}}.encode()) == "OK");
    const std::vector<float> before = bench.rows(0, {id(1, 5)});
    for (std::size_t size = 0; size < payload.size(); ++size) {
      CHECK(bench.send(type, Bytes(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(size))) !=
            "OK");
    }
    Bytes longer = payload;
    longer.push_back(std::byte{0});
    CHECK(bench.send(type, longer) != "OK");
    CHECK(bench.rows(0, {id(1, 5)}) == before);
    CHECK(bench.counter("tables.t.rows") == 1 && bench.counter("tables.u.rows") == 0);
    // These may be valid by chance (a batch number), but must never crash or take much memory.
    for (std::size_t at = 0; at + 4 <= payload.size(); ++at) {
      Bytes huge = payload;
      std::fill_n(huge.begin() + static_cast<std::ptrdiff_t>(at), 4, std::byte{0xFF});
      bench.send(type, huge);
    }
  }
}

TEST(requests_out_of_place_are_refused) {
  Server fresh(0);
  const auto raw = [&](MessageType type, std::uint64_t sequence) {
    return Bench::outcome(
        fresh.handle({}, make_frame({type, 0, 0, sequence}, DiscardRequest{1}.encode())).at(0).frame);
  };
  CHECK(raw(MessageType::kDiscard, 1) == "NOT_CONFIGURED");
  CHECK(raw(MessageType::kOk, 2) == "UNKNOWN_TYPE");

  Bench bench({testing::table("t", 1, 1)});
  const auto lookup = [&](std::uint64_t batch, std::uint32_t table, std::uint64_t key) {
    return bench.send(MessageType::kLookup, LookupRequest{batch, true, {{table, {key}}}}.encode());
  };
  CHECK(lookup(1, 1, id(1, 5)) == "UNKNOWN_TABLE");
  CHECK(lookup(1, 0, id(2, 5)) == "WRONG_PREFIX");
  CHECK(lookup(1, 0, id(1, 5)) == "OK");
  CHECK(lookup(1, 0, id(1, 5)) == "BATCH_ORDER");
  CHECK(lookup(2, 0, id(1, 5)) == "OK");
  CHECK(lookup(3, 0, id(1, 5)) == "STALENESS_EXCEEDED");
  CHECK(bench.send(MessageType::kSave, SaveRequest{"/tmp"}.encode()) == "BATCHES_OUTSTANDING");
  const auto update = [&](std::uint64_t batch, float gradient) {
    return bench.send(MessageType::kUpdate,
                      UpdateRequest{batch, {{0, 1, 1, {id(1, 5)}, {gradient}}}}.encode());
  };
  const std::vector<float> before = bench.rows(0, {id(1, 5)});
  CHECK(update(7, 1) == "NOT_OUTSTANDING");
  CHECK(update(1, std::numeric_limits<float>::quiet_NaN()) == "NOT_FINITE");
  CHECK(update(1, std::numeric_limits<float>::infinity()) == "NOT_FINITE");
  CHECK(bench.rows(0, {id(1, 5)}) == before);
  CHECK(update(1, 1) == "OK");
  CHECK(update(1, 1) == "NOT_OUTSTANDING");
  CHECK(bench.rows(0, {id(1, 5)}) != before);
  CHECK(bench.send(MessageType::kDiscard, DiscardRequest{2}.encode()) == "OK");
  CHECK(bench.counter("staleness.histogram.2") == 1 && bench.counter("staleness.max") == 2);
  CHECK(bench.post(MessageType::kStats, {}, 1).size() == 1);
  CHECK(bench.send(MessageType::kStats, {}, 1) == "UNKNOWN_TRAINER");
}

// The sum of the first table overflows while the gradients of the second one wait to be summed.
TEST(an_update_whose_sum_overflows_leaves_no_gradient_behind) {
  Bench bench({testing::table("t", 1, 1), testing::table("u", 2, 1)});
  const LookupRequest lookup{1, true, {{0, {id(1, 5)}}, {1, {id(2, 5)}}}};
  CHECK(bench.send(MessageType::kLookup, lookup.encode()) == "OK");
  const std::vector<float> t = bench.rows(0, {id(1, 5)});
  const std::vector<float> u = bench.rows(1, {id(2, 5)});
  const float most = std::numeric_limits<float>::max();
  const UpdateRequest overflow{1,
                               {{0, 1, 1, {id(1, 5), id(1, 5)}, {most, most}}, {1, 1, 1, {id(2, 5)}, {1}}}};
  CHECK(bench.send(MessageType::kUpdate, overflow.encode()) == "NOT_FINITE");
  CHECK(bench.rows(0, {id(1, 5)}) == t);
  CHECK(bench.rows(1, {id(2, 5)}) == u);
  CHECK(bench.send(MessageType::kUpdate, UpdateRequest{1, {{0, 1, 1, {id(1, 5)}, {1}}}}.encode()) == "OK");
  CHECK(bench.rows(0, {id(1, 5)}) != t);
  CHECK(bench.rows(1, {id(2, 5)}) == u);
  CHECK(bench.counter("tables.t.updates") == 1);
  CHECK(bench.counter("tables.u.updates") == 0 && bench.counter("tables.u.updates_missing") == 0);
}

TEST(combined_gradients_of_all_trainers_are_one_step) {
  Bench bench({testing::table("t", 1, 1)}, 2, 1, true);
  for (std::uint32_t trainer = 0; trainer < 2; ++trainer) {
    CHECK(bench.send(MessageType::kLookup, LookupRequest{0, true, {{0, {id(1, 5)}}}}.encode(), trainer) ==
          "OK");
  }
  const float before = bench.rows(0, {id(1, 5)})[0];
  const auto update = [&](std::uint32_t trainer, float gradient) {
    const Bytes payload = UpdateRequest{0, {{0, 1, 1, {id(1, 5)}, {gradient}}}}.encode();
    return bench.post(MessageType::kUpdate, payload, trainer);
  };
  // One trainer's bad gradient is its own affair: it is refused at once, not when all have sent theirs.
  CHECK(Bench::outcome(update(0, std::numeric_limits<float>::quiet_NaN()).at(0).frame) == "NOT_FINITE");
  CHECK(update(1, 3).empty());
  CHECK(Bench::outcome(update(1, 3).at(0).frame) == "REPLAYED");
  CHECK(bench.rows(0, {id(1, 5)})[0] == before);
  const auto replies = update(0, 1);
  CHECK(replies.size() == 2);
  CHECK(replies.at(0).peer.rank == 0 && replies.at(1).peer.rank == 1);
  // Adagrad's first step is learning_rate * sign(g); two steps would go further.
  CHECK(std::abs(bench.rows(0, {id(1, 5)})[0] - (before - 0.5f)) < 1e-6f);
  CHECK(bench.counter("tables.t.updates") == 1);
}

TEST(batches_that_are_combined_do_not_wait_for_each_other) {
  Bench bench({testing::table("t", 1, 1)}, 2, 2, true);
  for (std::uint32_t trainer = 0; trainer < 2; ++trainer) {
    for (std::uint64_t batch = 0; batch < 2; ++batch) {
      CHECK(bench.send(MessageType::kLookup, LookupRequest{batch, true, {{0, {id(1, 5)}}}}.encode(),
                       trainer) == "OK");
    }
  }
  const auto update = [&](std::uint32_t trainer, std::uint64_t batch, float gradient) {
    const Bytes payload = UpdateRequest{batch, {{0, 1, 1, {id(1, 5)}, {gradient}}}}.encode();
    return bench.post(MessageType::kUpdate, payload, trainer);
  };
  const float before = bench.rows(0, {id(1, 5)})[0];
  CHECK(update(0, 0, 3).empty());
  CHECK(update(0, 1, 1).empty());
  CHECK(bench.rows(0, {id(1, 5)})[0] == before);
  CHECK(update(1, 0, 1).size() == 2);
  // Adagrad: learning_rate * g / sqrt(sum of g^2), first 4 / sqrt(16), then 2 / sqrt(16 + 4).
  CHECK(std::abs(bench.rows(0, {id(1, 5)})[0] - (before - 0.5f)) < 1e-6f);
  CHECK(update(1, 1, 1).size() == 2);
  CHECK(std::abs(bench.rows(0, {id(1, 5)})[0] - (before - 0.5f - 0.5f * 2 / std::sqrt(20.0f))) < 1e-6f);
  CHECK(bench.counter("tables.t.updates") == 2);
}

TEST(a_batch_that_a_trainer_has_passed_by_is_refused) {
  Bench bench({testing::table("t", 1, 1)}, 2, 2, true);
  const auto lookup = [&](std::uint32_t trainer, std::uint64_t batch) {
    return bench.send(MessageType::kLookup, LookupRequest{batch, true, {{0, {id(1, 5)}}}}.encode(), trainer);
  };
  const auto discard = [&](std::uint32_t trainer, std::uint64_t batch) {
    return bench.post(MessageType::kDiscard, DiscardRequest{batch}.encode(), trainer);
  };
  CHECK(lookup(0, 0) == "OK" && lookup(0, 1) == "OK" && lookup(1, 1) == "OK");
  // Trainer 1 has gone on to batch 1: nobody would ever complete batch 0.
  CHECK(Bench::outcome(discard(0, 0).at(0).frame) == "BATCH_MISMATCH");
  CHECK(discard(0, 1).empty());
  CHECK(lookup(1, 2) == "OK");
  CHECK(discard(1, 1).size() == 2);
  // Trainer 0 may still come to batch 2.
  CHECK(discard(1, 2).empty());
  CHECK(lookup(0, 3) == "OK");
  CHECK(Bench::outcome(discard(0, 3).at(0).frame) == "BATCH_MISMATCH");
}

}  // namespace persia
