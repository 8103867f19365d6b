#include "persia/error.h"
#include "persia/frame.h"

namespace persia {

std::string_view name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kTruncated: return "TRUNCATED";
    case ErrorCode::kBadMagic: return "BAD_MAGIC";
    case ErrorCode::kBadVersion: return "BAD_VERSION";
    case ErrorCode::kTooLarge: return "TOO_LARGE";
    case ErrorCode::kBadLength: return "BAD_LENGTH";
    case ErrorCode::kBadChecksum: return "BAD_CHECKSUM";
    case ErrorCode::kUnknownType: return "UNKNOWN_TYPE";
    case ErrorCode::kReplayed: return "REPLAYED";
    case ErrorCode::kMalformed: return "MALFORMED";
    case ErrorCode::kNotConfigured: return "NOT_CONFIGURED";
    case ErrorCode::kBadConfig: return "BAD_CONFIG";
    case ErrorCode::kUnknownTrainer: return "UNKNOWN_TRAINER";
    case ErrorCode::kUnknownTable: return "UNKNOWN_TABLE";
    case ErrorCode::kWrongPrefix: return "WRONG_PREFIX";
    case ErrorCode::kWrongServer: return "WRONG_SERVER";
    case ErrorCode::kNotFinite: return "NOT_FINITE";
    case ErrorCode::kBatchOrder: return "BATCH_ORDER";
    case ErrorCode::kStalenessExceeded: return "STALENESS_EXCEEDED";
    case ErrorCode::kNotOutstanding: return "NOT_OUTSTANDING";
    case ErrorCode::kBatchMismatch: return "BATCH_MISMATCH";
    case ErrorCode::kBatchesOutstanding: return "BATCHES_OUTSTANDING";
    case ErrorCode::kNotEmpty: return "NOT_EMPTY";
    case ErrorCode::kCorruptPart: return "CORRUPT_PART";
    case ErrorCode::kPartMismatch: return "PART_MISMATCH";
    case ErrorCode::kIo: return "IO_ERROR";
    case ErrorCode::kNoSpace: return "NO_SPACE";
    case ErrorCode::kOutOfMemory: return "OUT_OF_MEMORY";
    case ErrorCode::kInternal: return "INTERNAL";
    case ErrorCode::kSaveUnderWay: return "SAVE_UNDER_WAY";
    case ErrorCode::kNoSave: return "NO_SAVE";
    case ErrorCode::kSaveFailed: return "SAVE_FAILED";
    case ErrorCode::kNoBase: return "NO_BASE";
  }
  return "UNKNOWN";
}

std::string_view name_of(MessageType type) {
  switch (type) {
    case MessageType::kConfigure: return "CONFIGURE";
    case MessageType::kLookup: return "LOOKUP";
    case MessageType::kUpdate: return "UPDATE";
    case MessageType::kDiscard: return "DISCARD";
    case MessageType::kSave: return "SAVE";
    case MessageType::kLoad: return "LOAD";
    case MessageType::kStats: return "STATS";
    case MessageType::kShutdown: return "SHUTDOWN";
    case MessageType::kAdvanceDay: return "ADVANCE_DAY";
    case MessageType::kBeginSave: return "BEGIN_SAVE";
    case MessageType::kFinishSave: return "FINISH_SAVE";
    case MessageType::kOk: return "OK";
    case MessageType::kError: return "ERROR";
  }
  return "UNKNOWN";
}

}  // namespace persia
