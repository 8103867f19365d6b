// What several tests need: small tables, ids, frames, and a directory that goes away.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "persia/ids.h"
#include "persia/messages.h"
#include "persia/server.h"

namespace persia::testing {

inline TableSpec table(const std::string& name, std::uint32_t prefix, std::uint32_t dim,
                       OptimizerKind kind = OptimizerKind::kAdagrad) {
  TableSpec spec;
  spec.name = name;
  spec.prefix = prefix;
  spec.prefix_bits = 8;
  spec.dim = dim;
  spec.optimizer = {.kind = kind, .learning_rate = 0.5, .epsilon = 1e-10};
  spec.initializer = {.kind = InitializerKind::kUniform, .low = -1, .high = 1};
  spec.expected_rows = 10;
  return spec;
}

inline std::uint64_t id(std::uint64_t prefix, std::uint64_t value) {
  return prefix << 56 | value;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "persia-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A server without a carrier, and the sequence numbers of its one client per trainer.
class Bench {
 public:
  explicit Bench(std::vector<TableSpec> tables, std::uint32_t trainers = 1, std::uint32_t staleness = 2,
                 bool combine = false, std::uint32_t threads = 1, const std::filesystem::path& segments = {})
      : server(0, {.threads = threads, .segments = segments}) {
    ConfigureRequest request{0, 1, trainers, staleness, combine, 11, std::move(tables)};
    send(MessageType::kConfigure, request.encode());
  }

  std::vector<Outgoing> post(MessageType type, const Bytes& payload, std::uint32_t trainer = 0) {
    return server.handle({static_cast<std::int32_t>(trainer), 0},
                         make_frame({type, trainer, 0, ++sequence}, payload));
  }

  // "OK", or the name of the error.
  std::string send(MessageType type, const Bytes& payload, std::uint32_t trainer = 0) {
    return outcome(post(type, payload, trainer).at(0).frame);
  }

  static std::string outcome(const Bytes& frame) {
    const Frame reply = parse_frame(frame);
    if (reply.header.type == MessageType::kOk) return "OK";
    return std::string(name_of(static_cast<ErrorCode>(parse_error(reply.payload).code)));
  }

  std::vector<float> rows(std::uint32_t table, std::vector<std::uint64_t> ids) {
    const Bytes payload = LookupRequest{0, false, {{table, std::move(ids)}}}.encode();
    const auto replies = post(MessageType::kLookup, payload);
    return LookupReply::decode(parse_frame(replies.at(0).frame).payload).tables.at(0).weights;
  }

  std::uint64_t counter(const std::string& name) {
    const auto replies = post(MessageType::kStats, {});
    for (const auto& [key, value] : StatsReply::decode(parse_frame(replies.at(0).frame).payload).counters) {
      if (key == name) return value;
    }
    return 0;
  }

  Server server;
  std::uint64_t sequence = 0;
};

}  // namespace persia::testing
