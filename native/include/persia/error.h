// Errors that cross the wire, and those that a caller of the worker sees.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace persia {

// The code of an ERROR reply. Numbers are part of the protocol (docs/formats/wire.md): never reuse one.
enum class ErrorCode : std::uint32_t {
  kTruncated = 1,
  kBadMagic = 2,
  kBadVersion = 3,
  kTooLarge = 4,
  kBadLength = 5,
  kBadChecksum = 6,
  kUnknownType = 7,
  kReplayed = 8,
  kMalformed = 9,
  kNotConfigured = 10,
  kBadConfig = 11,
  kUnknownTrainer = 12,
  kUnknownTable = 13,
  kWrongPrefix = 14,
  kWrongServer = 15,
  kNotFinite = 16,
  kBatchOrder = 17,
  kStalenessExceeded = 18,
  kNotOutstanding = 19,
  kBatchMismatch = 20,
  kBatchesOutstanding = 21,
  kNotEmpty = 22,
  kCorruptPart = 23,
  kPartMismatch = 24,
  kIo = 25,
  kNoSpace = 26,
  kOutOfMemory = 27,
  kInternal = 28,
  kSaveUnderWay = 29,
  kNoSave = 30,
  kSaveFailed = 31,
  kNoBase = 32,
};

// "STALENESS_EXCEEDED" and so on; "UNKNOWN" for a number that this version does not know.
std::string_view name_of(ErrorCode code);

// A request that a server refuses: becomes an ERROR reply and a count, and changes nothing.
class RequestError : public std::runtime_error {
 public:
  RequestError(ErrorCode code, const std::string& what) : std::runtime_error(what), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

// A request that found no answer: the server is gone, or silent beyond the timeout.
class TransportError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A request that a server answered with an ERROR reply.
class ServerError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace persia
