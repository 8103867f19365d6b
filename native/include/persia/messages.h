// Payloads of requests and of their OK replies, byte by byte in docs/formats/wire.md.
// decode() throws RequestError(kMalformed) on anything but exactly such a payload.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "persia/codec.h"
#include "persia/table_spec.h"

namespace persia {

struct ConfigureRequest {
  std::uint32_t server = 0;
  std::uint32_t servers = 0;
  std::uint32_t trainers = 0;
  std::uint32_t staleness = 0;
  bool combine = false;
  std::uint64_t seed = 0;
  std::vector<TableSpec> tables;
  WeightType values = WeightType::kFloat32;  // in which rows and gradients travel

  Bytes encode() const;
  static ConfigureRequest decode(std::span<const std::byte> payload);
};

struct TableIds {
  std::uint32_t table = 0;
  std::vector<std::uint64_t> ids;
};

struct LookupRequest {
  std::uint64_t batch = 0;
  bool training = false;
  std::vector<TableIds> tables;  // ascending, each table at most once

  Bytes encode() const;
  static LookupRequest decode(std::span<const std::byte> payload);
};

struct TableRows {
  std::uint32_t table = 0;
  std::uint32_t dim = 0;
  std::uint64_t rows = 0;
  Floats weights;                      // [rows, dim]; zeros where missing
  std::vector<std::uint32_t> missing;  // positions, ascending
};

// Decoded, its weights are views of the payload if they have travelled in float32.
struct LookupReply {
  std::vector<TableRows> tables;             // as in the request
  WeightType values = WeightType::kFloat32;  // encoded as these

  Bytes encode() const;
  static LookupReply decode(std::span<const std::byte> payload);
};

struct TableGradients {
  std::uint32_t table = 0;
  std::uint32_t dim = 0;
  double learning_rate_factor = 1;
  std::vector<std::uint64_t> ids;
  Floats gradients;  // [ids, dim]
};

// Decoded, its gradients are views of the payload if they have travelled in float32.
struct UpdateRequest {
  std::uint64_t batch = 0;
  std::vector<TableGradients> tables;        // ascending, each table at most once
  WeightType values = WeightType::kFloat32;  // encoded as these

  Bytes encode() const;
  static UpdateRequest decode(std::span<const std::byte> payload);
};

struct DiscardRequest {
  std::uint64_t batch = 0;

  Bytes encode() const;
  static DiscardRequest decode(std::span<const std::byte> payload);
};

struct SaveRequest {
  std::string directory;

  Bytes encode() const;
  static SaveRequest decode(std::span<const std::byte> payload);
};

struct SaveReply {
  std::string name;
  std::uint64_t rows = 0;
  std::uint64_t bytes = 0;

  Bytes encode() const;
  static SaveReply decode(std::span<const std::byte> payload);
};

enum class SaveKind : std::uint32_t {
  kFull = 0,   // all rows; of no chain
  kBase = 1,   // all rows; deltas may follow
  kDelta = 2,  // what has changed since the last base or delta
};

// A save on a snapshot, while the server goes on.
struct BeginSaveRequest {
  std::string directory;
  SaveKind kind = SaveKind::kFull;
  std::uint64_t cut = 0;  // of a base or a delta: its number, which no other one has

  Bytes encode() const;
  static BeginSaveRequest decode(std::span<const std::byte> payload);
};

struct FinishSaveRequest {
  bool give_up = false;  // else it is asked only

  Bytes encode() const;
  static FinishSaveRequest decode(std::span<const std::byte> payload);
};

struct FinishSaveReply {
  bool done = false;
  SaveReply part;  // empty until it is done

  Bytes encode() const;
  static FinishSaveReply decode(std::span<const std::byte> payload);
};

struct LoadRequest {
  std::vector<std::string> paths;

  Bytes encode() const;
  static LoadRequest decode(std::span<const std::byte> payload);
};

struct LoadReply {
  std::uint64_t rows = 0;   // kept by this server
  std::uint64_t bytes = 0;  // read by this server

  Bytes encode() const;
  static LoadReply decode(std::span<const std::byte> payload);
};

struct AdvanceDayRequest {
  std::uint32_t day = 0;  // since 1970-01-01

  Bytes encode() const;
  static AdvanceDayRequest decode(std::span<const std::byte> payload);
};

struct StatsReply {
  std::vector<std::pair<std::string, std::uint64_t>> counters;

  Bytes encode() const;
  static StatsReply decode(std::span<const std::byte> payload);
};

}  // namespace persia
