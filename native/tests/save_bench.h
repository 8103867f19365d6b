// Training on the server of a Bench, and saving what it holds.
#pragma once

#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "helpers.h"

namespace persia::testing {

inline std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void train(Bench& bench, std::uint64_t batch, std::uint64_t first) {
  std::vector<std::uint64_t> ids;
  for (std::uint64_t v = first; v < first + 300; ++v) ids.push_back(id(1, v * v));
  CHECK(bench.send(MessageType::kLookup, LookupRequest{batch, true, {{0, ids}}}.encode()) == "OK");
  std::vector<float> gradients(ids.size() * 3, 0.5F);
  UpdateRequest update{batch, {{0, 3, 1, ids, std::move(gradients)}}};
  CHECK(bench.send(MessageType::kUpdate, update.encode()) == "OK");
}

inline SaveReply finished(Bench& bench) {
  for (;;) {
    const auto replies = bench.post(MessageType::kFinishSave, FinishSaveRequest{}.encode());
    const Frame frame = parse_frame(replies.at(0).frame);
    if (frame.header.type != MessageType::kOk) return {};
    const FinishSaveReply reply = FinishSaveReply::decode(frame.payload);
    if (reply.done) return reply.part;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace persia::testing
