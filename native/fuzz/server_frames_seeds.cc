// Writes the inputs that the corpus of server_frames grows from: real requests, by the encoders of the day.
#include <iostream>
#include <limits>
#include <map>
#include <string>

#include "configurations.h"
#include "program.h"
#include "seed_file.h"

namespace persia::fuzz {
namespace {

const auto kOwnConfiguration = static_cast<std::uint8_t>(small_configurations().size());
constexpr std::uint64_t kItem = std::uint64_t{1} << 63;

Bytes lookup(std::uint64_t batch, bool training, std::vector<std::uint64_t> users,
             std::vector<std::uint64_t> items = {}) {
  LookupRequest request{batch, training, {{0, std::move(users)}}};
  if (!items.empty()) request.tables.push_back({1, std::move(items)});
  return request.encode();
}

// By name, so that fields to come keep their defaults.
TableGradients gradients(std::uint32_t table, std::uint32_t dim, std::vector<std::uint64_t> ids,
                         std::vector<float> values) {
  TableGradients one;
  one.table = table;
  one.dim = dim;
  one.ids = std::move(ids);
  one.gradients = std::move(values);
  return one;
}

Bytes update(std::uint64_t batch, std::vector<std::uint64_t> users, float gradient, double factor = 1) {
  std::vector<float> values(users.size() * 2, gradient);
  UpdateRequest request{batch, {gradients(0, 2, std::move(users), std::move(values))}};
  request.tables[0].learning_rate_factor = factor;
  return request.encode();
}

// Of one id of each table of the configurations whose values have 16 bits.
UpdateRequest narrow_update(std::uint64_t batch, WeightType values) {
  UpdateRequest request{batch, {gradients(0, 2, {5}, {1, -2}), gradients(1, 3, {kItem + 1}, {0, 3e38F, 1})}};
  request.values = values;
  return request;
}

Bytes update_item(std::uint64_t batch, std::uint32_t dim) {
  const std::vector<float> values(dim, 0.5F);
  return UpdateRequest{batch, {gradients(1, dim, {kItem + 1}, values)}}.encode();
}

constexpr MessageType kLookup = MessageType::kLookup;
constexpr MessageType kUpdate = MessageType::kUpdate;
constexpr MessageType kDiscard = MessageType::kDiscard;

std::map<std::string, Bytes> hybrid() {
  std::map<std::string, Bytes> seeds;
  seeds["steps"] = ProgramWriter(0)
                       .request(kLookup, lookup(1, true, {5, 6, 5}, {kItem + 1}))
                       .request(kLookup, lookup(1, true, {6, 7}), 1)
                       .request(kUpdate, update(1, {5, 6, 5}, 1), 0, Channel::kUpdate)
                       .request(kLookup, lookup(2, true, {5}, {kItem + 1}))
                       .request(kUpdate, update_item(2, 3), 0, Channel::kUpdate)
                       .request(kDiscard, DiscardRequest{1}.encode(), 1, Channel::kUpdate)
                       .request(kLookup, lookup(0, false, {5, 6, 99}, {kItem + 1, kItem + 2}))
                       .request(MessageType::kStats, {}, 0, Channel::kControl)
                       .request(MessageType::kShutdown, {}, 0, Channel::kControl)
                       .take();
  seeds["save_and_load"] = ProgramWriter(0)
                               .request(MessageType::kSave, SaveRequest{"a"}.encode(), 0, Channel::kControl)
                               .request(MessageType::kLoad, LoadRequest{{"a"}}.encode(), 0, Channel::kControl)
                               .request(kLookup, lookup(1, true, {5, 6}, {kItem + 1}))
                               .request(kDiscard, DiscardRequest{1}.encode(), 0, Channel::kUpdate)
                               .request(MessageType::kSave, SaveRequest{"a"}.encode(), 0, Channel::kControl)
                               .request(MessageType::kLoad, LoadRequest{{"a"}}.encode(), 0, Channel::kControl)
                               .request(MessageType::kSave, SaveRequest{"c"}.encode(), 0, Channel::kControl)
                               .take();
  seeds["snapshots"] =
      ProgramWriter(0)
          .request(MessageType::kFinishSave, FinishSaveRequest{}.encode(), 0, Channel::kControl)
          .request(MessageType::kBeginSave, BeginSaveRequest{"a", SaveKind::kDelta, 3}.encode(), 0,
                   Channel::kControl)
          .request(kLookup, lookup(1, true, {5, 6}, {kItem + 1}))
          .request(kDiscard, DiscardRequest{1}.encode(), 0, Channel::kUpdate)
          .request(MessageType::kBeginSave, BeginSaveRequest{"a", SaveKind::kBase, 1}.encode(), 0,
                   Channel::kControl)
          .request(MessageType::kFinishSave, FinishSaveRequest{}.encode(), 0, Channel::kControl)
          .request(kLookup, lookup(2, true, {6, 7}, {kItem + 2}))
          .request(kUpdate, update(2, {6, 7}, 1), 0, Channel::kUpdate)
          .request(MessageType::kBeginSave, BeginSaveRequest{"a", SaveKind::kDelta, 2}.encode(), 0,
                   Channel::kControl)
          .request(MessageType::kFinishSave, FinishSaveRequest{true}.encode(), 0, Channel::kControl)
          .request(MessageType::kBeginSave, BeginSaveRequest{"a"}.encode(), 0, Channel::kControl)
          .take();
  seeds["load_missing"] = ProgramWriter(0)
                              .request(MessageType::kLoad, LoadRequest{{"a", "b", "c"}}.encode())
                              .request(MessageType::kLoad, LoadRequest{{"d"}}.encode())
                              .take();
  seeds["wrong_order"] = ProgramWriter(0)
                             .request(kLookup, lookup(3, true, {5}))
                             .request(kLookup, lookup(3, true, {5}))
                             .request(kLookup, lookup(4, true, {5}))
                             .request(kLookup, lookup(5, true, {5}))
                             .request(kUpdate, update(7, {5}, 1))
                             .request(kUpdate, update(3, {5}, std::numeric_limits<float>::infinity()))
                             .request(kUpdate, update(3, {kItem}, 1))
                             .request(kUpdate, update(3, {5}, std::numeric_limits<float>::max()))
                             .request(kDiscard, DiscardRequest{3}.encode(), 2)
                             .request(kDiscard, DiscardRequest{3}.encode(), 0, Channel::kLookup, 0)
                             .take();
  // Finite gradients of an id whose sum is not, and then right ones.
  const float most = std::numeric_limits<float>::max();
  const UpdateRequest overflow{
      1, {gradients(0, 2, {5, 5}, {most, 1, most, 1}), gradients(1, 3, {kItem + 1}, {1, 1, 1})}};
  seeds["sum_overflows"] = ProgramWriter(0)
                               .request(kLookup, lookup(1, true, {5}, {kItem + 1}))
                               .request(kUpdate, overflow.encode(), 0, Channel::kUpdate)
                               .request(kUpdate, update(1, {5}, 1), 0, Channel::kUpdate)
                               .take();
  seeds["days"] = ProgramWriter(4)
                      .request(MessageType::kAdvanceDay, AdvanceDayRequest{10}.encode(), 0, Channel::kControl)
                      .request(kLookup, lookup(1, true, {5}, {kItem + 1}))
                      .request(MessageType::kAdvanceDay, AdvanceDayRequest{11}.encode(), 0, Channel::kControl)
                      .request(kUpdate, update(1, {5}, 1, 0.5), 0, Channel::kUpdate)
                      .request(MessageType::kAdvanceDay, AdvanceDayRequest{11}.encode(), 0, Channel::kControl)
                      .request(kLookup, lookup(2, true, {6}))
                      .request(kDiscard, DiscardRequest{2}.encode(), 0, Channel::kUpdate)
                      .request(MessageType::kAdvanceDay, AdvanceDayRequest{20}.encode(), 0, Channel::kControl)
                      .request(MessageType::kSave, SaveRequest{"a"}.encode(), 0, Channel::kControl)
                      .take();
  seeds["divergence"] = ProgramWriter(0)
                            .request(kLookup, lookup(1, true, {5}))
                            .request(kUpdate, update(1, {5}, 1e30F), 0, Channel::kUpdate)
                            .request(MessageType::kSave, SaveRequest{"a"}.encode(), 0, Channel::kControl)
                            .take();
  return seeds;
}

std::map<std::string, Bytes> other_modes() {
  std::map<std::string, Bytes> seeds;
  seeds["combine"] = ProgramWriter(1)
                         .request(kLookup, lookup(1, true, {5, 6}, {kItem + 1}))
                         .request(kLookup, lookup(1, true, {5}, {kItem + 1}), 1)
                         .request(kUpdate, update(1, {5, 6}, 1))
                         .request(kUpdate, update(1, {5}, 2), 1)
                         .request(kLookup, lookup(2, true, {5}), 0)
                         .request(kLookup, lookup(2, true, {5}), 1)
                         .request(kUpdate, update(2, {5}, 1, 1))
                         .request(kUpdate, update(2, {5}, 1, 0.5), 1)
                         .request(kDiscard, DiscardRequest{2}.encode(), 0)
                         .request(kUpdate, update_item(2, 1), 1)
                         .take();
  for (const auto& [configuration, values] :
       {std::pair{5, WeightType::kFloat16}, std::pair{6, WeightType::kBfloat16}}) {
    seeds[name_of(values)] = ProgramWriter(static_cast<std::uint8_t>(configuration))
                                 .request(kLookup, lookup(1, true, {5, 6}, {kItem + 1}))
                                 .request(kUpdate, update(1, {5}, 1), 0, Channel::kUpdate)
                                 .request(kUpdate, narrow_update(1, values).encode(), 0, Channel::kUpdate)
                                 .request(kLookup, lookup(0, false, {5, 6, 99}, {kItem + 1, kItem + 2}))
                                 .take();
  }
  ProgramWriter eviction(2);
  for (std::uint64_t batch = 1; batch < 5; ++batch) {
    eviction.request(kLookup, lookup(batch, true, {batch, batch + 1}, {kItem + batch / 2}));
    eviction.request(kUpdate, update(batch, {batch, batch + 1}, 1));
  }
  seeds["eviction"] =
      eviction.request(MessageType::kSave, SaveRequest{"a"}.encode(), 0, Channel::kControl).take();
  seeds["two_servers"] = ProgramWriter(3)
                             .request(kLookup, lookup(1, true, {1}, {kItem + 1}))
                             .request(kLookup, lookup(2, true, {2}, {kItem + 2}))
                             .request(kLookup, lookup(3, true, {3}, {kItem + 4}))
                             .request(kUpdate, update(1, {1}, 1))
                             .take();
  std::uint8_t number = 0;
  for (const ConfigureRequest& configuration : small_configurations()) {
    const Bytes payload = configuration.encode();
    seeds["configure_" + std::to_string(number++)] =
        ProgramWriter(kOwnConfiguration)
            .request(kLookup, lookup(1, true, {5}))
            .request(MessageType::kConfigure, payload, 0, Channel::kControl)
            .request(MessageType::kConfigure, payload, 0, Channel::kControl)
            .request(kLookup, lookup(1, true, {5}, {kItem + 1}))
            .take();
  }
  return seeds;
}

std::map<std::string, Bytes> frames_and_replies() {
  std::map<std::string, Bytes> seeds;
  const Bytes frame = make_frame({kLookup, 1, 0, 7}, lookup(3, true, {5}));
  const Bytes refusal = make_error({kLookup, 1, 0, 7}, ErrorCode::kStalenessExceeded, "no");
  seeds["raw"] = ProgramWriter(0).raw(frame).raw(frame).raw(refusal).reply(0, refusal).reply(0, frame).take();
  const LookupReply reply{{{0, 2, 2, {1, 2, 0, 0}, {1}}, {1, 1, 1, {3}, {}}}};
  const ConfigureRequest configuration = small_configurations().front();
  LookupReply narrow_reply = reply;
  narrow_reply.values = WeightType::kFloat16;
  const std::vector<Bytes> payloads{
      refusal,
      reply.encode(),
      SaveReply{"embedding-0.safetensors", 3, 100}.encode(),
      LoadReply{3, 100}.encode(),
      StatsReply{{{"server", 0}, {"tables.user.rows", 3}}}.encode(),
      configuration.encode(),
      lookup(1, true, {5, 6}, {kItem + 1}),
      update(1, {5, 6}, 1),
      SaveRequest{"a"}.encode(),
      LoadRequest{{"a", "b"}}.encode(),
      AdvanceDayRequest{10}.encode(),
  };
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    const auto decoder = static_cast<std::uint8_t>(i);
    seeds["decoder_" + std::to_string(i)] =
        ProgramWriter(kOwnConfiguration).reply(decoder, payloads[i]).take();
  }
  seeds["decoder_1_float16"] = ProgramWriter(kOwnConfiguration).reply(1, narrow_reply.encode()).take();
  seeds["decoder_7_float16"] =
      ProgramWriter(kOwnConfiguration).reply(7, narrow_update(1, WeightType::kFloat16).encode()).take();
  return seeds;
}

}  // namespace
}  // namespace persia::fuzz

int main(int count, char** values) try {
  if (count != 2) throw std::invalid_argument("usage: persia_fuzz_server_frames_seeds FOLDER");
  for (auto* seeds : {&persia::fuzz::hybrid, &persia::fuzz::other_modes, &persia::fuzz::frames_and_replies}) {
    for (const auto& [name, bytes] : seeds()) persia::fuzz::write_seed(values[1], name, bytes);
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
