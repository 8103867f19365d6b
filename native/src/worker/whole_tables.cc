// What a worker asks of the tables of all servers as a whole.
#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "persia/drafts.h"
#include "persia/worker.h"
#include "replies.h"

namespace persia {
namespace {

// Saving, loading and a new day go through whole tables: they may take this many times the timeout of other
// requests.
constexpr double kBulkTimeouts = 30;

}  // namespace

std::vector<SaveReply> Worker::save(const std::string& directory) {
  const SaveRequest request{std::filesystem::absolute(directory).string()};
  const auto replies =
      request_all(Channel::kControl, MessageType::kSave, request.encode(), options_.timeout * kBulkTimeouts);
  return decode_all<SaveReply>(replies, MessageType::kSave);
}

void Worker::begin_save(const std::string& directory, SaveKind kind, std::uint64_t cut) {
  if ((kind == SaveKind::kFull) != (cut == 0))
    throw std::invalid_argument("a base or a delta has a cut above 0, and nothing else has one");
  const BeginSaveRequest request{std::filesystem::absolute(directory).string(), kind, cut};
  give_up_unless_ok(request_all(Channel::kControl, MessageType::kBeginSave, request.encode(),
                                options_.timeout * kBulkTimeouts));
}

std::optional<std::vector<SaveReply>> Worker::finish_save() {
  const auto replies = request_all(Channel::kControl, MessageType::kFinishSave, FinishSaveRequest{}.encode(),
                                   options_.timeout);
  give_up_unless_ok(replies);
  std::vector<SaveReply> parts;
  for (FinishSaveReply& reply : decode_all<FinishSaveReply>(replies, MessageType::kFinishSave)) {
    if (!reply.done) return std::nullopt;
    parts.push_back(std::move(reply.part));
  }
  return parts;
}

void Worker::give_up_save() {
  require_ok(request_all(Channel::kControl, MessageType::kFinishSave, FinishSaveRequest{true}.encode(),
                         options_.timeout));
}

void Worker::give_up_unless_ok(const std::vector<Reply>& replies) {
  const bool any_refused =
      std::ranges::any_of(replies, [](const Reply& reply) { return reply.error.has_value(); });
  std::vector<std::optional<Bytes>> frames(replies.size());
  for (std::size_t s = 0; s < replies.size(); ++s) {
    if (!replies[s].error) frames[s] = drafted(FinishSaveRequest{true}.encode());
  }
  if (any_refused) exchange(Channel::kControl, MessageType::kFinishSave, std::move(frames), options_.timeout);
  require_ok(replies);
}

std::vector<LoadReply> Worker::load(const std::vector<std::string>& paths) {
  LoadRequest request;
  for (const std::string& path : paths) request.paths.push_back(std::filesystem::absolute(path).string());
  const auto replies =
      request_all(Channel::kControl, MessageType::kLoad, request.encode(), options_.timeout * kBulkTimeouts);
  return decode_all<LoadReply>(replies, MessageType::kLoad);
}

void Worker::advance_day(std::uint32_t day) {
  require_ok(request_all(Channel::kControl, MessageType::kAdvanceDay, AdvanceDayRequest{day}.encode(),
                         options_.timeout * kBulkTimeouts));
}

std::vector<StatsReply> Worker::stats() {
  const auto replies = request_all(Channel::kControl, MessageType::kStats, {}, options_.timeout);
  return decode_all<StatsReply>(replies, MessageType::kStats);
}

void Worker::shutdown() {
  require_ok(request_all(Channel::kControl, MessageType::kShutdown, {}, options_.timeout));
}

}  // namespace persia
