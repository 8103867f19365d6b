#include "session.h"

#include <algorithm>
#include <filesystem>
#include <thread>

#include "canonical.h"
#include "sandbox.h"
#include "violation.h"

namespace persia::fuzz {
namespace {

constexpr std::uint64_t kLastSequence = ~std::uint64_t{0};
constexpr std::size_t kMostKnown = 16;  // ids of a table

std::optional<Frame> parsed(std::span<const std::byte> bytes) {
  try {
    return parse_frame(bytes);
  } catch (const RequestError&) {
    return std::nullopt;
  }
}

// The payload with paths in the sandbox, if it is one that has paths.
std::optional<Bytes> confined(const Frame& frame) {
  const Sandbox& sandbox = Sandbox::instance();
  if (frame.header.type == MessageType::kSave) {
    if (const auto save = decode_canonical<SaveRequest>(frame.payload))
      return sandbox.confine(*save).encode();
  }
  if (frame.header.type == MessageType::kBeginSave) {
    if (const auto save = decode_canonical<BeginSaveRequest>(frame.payload))
      return sandbox.confine(*save).encode();
  }
  if (frame.header.type == MessageType::kLoad) {
    if (const auto load = decode_canonical<LoadRequest>(frame.payload))
      return sandbox.confine(*load).encode();
  }
  return std::nullopt;
}

bool may_wait(MessageType type) {
  return type == MessageType::kUpdate || type == MessageType::kDiscard;
}

template <typename Entry>
bool ascending(const std::vector<Entry>& tables) {
  return std::ranges::is_sorted(tables, std::ranges::less_equal{}, &Entry::table);
}

bool may_change(MessageType type) {
  return type != MessageType::kStats && type != MessageType::kSave && type != MessageType::kBeginSave &&
         type != MessageType::kFinishSave;
}

}  // namespace

void Session::request(MessageType type, std::uint32_t trainer, std::uint32_t channel, std::uint64_t step,
                      std::span<const std::byte> payload) {
  deliver(make_frame({type, trainer, channel, last_sequence_[{trainer, channel}] + step}, payload), channel);
}

void Session::deliver(Bytes bytes, std::uint32_t channel) {
  std::optional<Frame> frame = parsed(bytes);
  if (frame) {
    require(std::ranges::equal(make_frame(frame->header, frame->payload), bytes), "a frame has one spelling");
    if (const auto payload = confined(*frame)) {
      bytes = make_frame(frame->header, *payload);
      frame = parse_frame(bytes);
    }
  }
  const bool was_configured = configured_.has_value();
  const Peer peer{next_rank_++, static_cast<std::int32_t>(channel)};
  Asked& asked = waiting_[peer.rank];
  if (frame) {
    asked = {frame->header, Bytes(frame->payload.begin(), frame->payload.end())};
    std::uint64_t& last = last_sequence_[{frame->header.trainer, frame->header.channel}];
    last = std::max(last, frame->header.sequence);
  }
  const MessageType type = asked.header.type;

  accepted_.reset();
  const std::vector<Outgoing> replies = server_.handle(peer, bytes);
  for (const Outgoing& reply : replies) {
    require(reply.peer == peer || may_wait(type), "a reply goes to the one that asked");
    const bool ok = receive(reply);
    if (!ok || reply.peer.rank != peer.rank) continue;
    const auto payload = parse_frame(reply.frame).payload;
    accepted_ = Bytes(payload.begin(), payload.end());
  }
  if (waiting_.contains(peer.rank)) {
    require(configured_ && configured_->combine && may_wait(type),
            "only a combined step leaves a request unanswered");
    require(replies.empty(), "a request that completes a step is answered too");
    require(waiting_.size() < std::size_t{configured_->trainers} * configured_->staleness,
            "no step waits once all trainers have sent theirs");
  }

  const std::optional<Counters> after = counters();
  const bool again = type == MessageType::kConfigure && was_configured;
  const bool unchanged = !accepted_ || again || !may_change(type);
  if (unchanged && before_ && after)
    require(*before_ == *after, "a refused or reading request changes nothing");
  if (after) check_bounds(*after);
  before_ = after;
  if (!frame || !may_change(type) || known_ids_.empty()) return;
  const std::optional<Bytes> rows = known_rows();
  if (unchanged && known_rows_ && rows) require(*known_rows_ == *rows, "a refused request changes no row");
  known_rows_ = rows;
  before_ = counters();  // what the session asks is counted too
}

// True for OK.
bool Session::receive(const Outgoing& reply) {
  const auto found = waiting_.find(reply.peer.rank);
  require(found != waiting_.end(), "a request is answered once");
  const Asked asked = std::move(found->second);
  waiting_.erase(found);
  const std::optional<Frame> frame = parsed(reply.frame);
  require(frame.has_value(), "a reply is a right frame");
  require(frame->header.trainer == asked.header.trainer && frame->header.channel == asked.header.channel &&
              frame->header.sequence == asked.header.sequence,
          "a reply repeats trainer, channel and sequence of its request");
  if (frame->header.type == MessageType::kOk) {
    accept(asked, Bytes(frame->payload.begin(), frame->payload.end()));
    return true;
  }
  require(frame->header.type == MessageType::kError, "a reply is OK or ERROR");
  const ErrorReply error = parse_error(frame->payload);
  const auto code = static_cast<ErrorCode>(error.code);
  require(name_of(code) != "UNKNOWN" && code != ErrorCode::kInternal,
          "an error has a code that is no defect");
  require(!error.text.empty(), "an error says what is wrong");
  require(!Sandbox::instance().has_temporary_file(), "a refused SAVE leaves no file");
  return false;
}

void Session::accept(const Asked& asked, const Bytes& payload) {
  switch (asked.header.type) {
    case MessageType::kConfigure: {
      const auto request = decode_canonical<ConfigureRequest>(asked.payload);
      require(request.has_value() && payload.empty(), "only a right CONFIGURE is accepted");
      if (!configured_) configured_ = request;
      return;
    }
    case MessageType::kLookup: {
      const auto request = decode_canonical<LookupRequest>(asked.payload);
      const auto reply = decode_canonical<LookupReply>(payload);
      require(configured_ && request && reply, "only a right LOOKUP is accepted, with a right reply");
      check_lookup(*request, *reply);
      for (const TableIds& table : request->tables) {
        for (const std::uint64_t id : table.ids) {
          if (request->training && known_ids_[table.table].size() < kMostKnown)
            known_ids_[table.table].insert(id);
        }
      }
      return;
    }
    case MessageType::kUpdate: {
      const auto request = decode_canonical<UpdateRequest>(asked.payload);
      require(configured_ && request && payload.empty(), "only a right UPDATE is accepted");
      require(ascending(request->tables), "the tables of an UPDATE ascend");
      return;
    }
    case MessageType::kDiscard:
      require(configured_ && decode_canonical<DiscardRequest>(asked.payload) && payload.empty(),
              "only a right DISCARD is accepted");
      return;
    case MessageType::kAdvanceDay:
      require(configured_ && decode_canonical<AdvanceDayRequest>(asked.payload) && payload.empty(),
              "only a right ADVANCE_DAY is accepted");
      return;
    case MessageType::kSave: {
      const auto reply = decode_canonical<SaveReply>(payload);
      require(configured_ && reply, "a SAVE has a right reply");
      check_saved_part(*reply);
      return;
    }
    case MessageType::kBeginSave:
      require(configured_ && decode_canonical<BeginSaveRequest>(asked.payload) && payload.empty(),
              "only a right BEGIN_SAVE is accepted");
      settle_save(*decode_canonical<BeginSaveRequest>(asked.payload));
      return;
    case MessageType::kFinishSave: {
      const auto request = decode_canonical<FinishSaveRequest>(asked.payload);
      const auto reply = decode_canonical<FinishSaveReply>(payload);
      require(configured_ && request && reply, "only a right FINISH_SAVE is accepted, with a right reply");
      require(reply->done != request->give_up, "a save that has settled is done, unless it was given up");
      return;
    }
    case MessageType::kLoad:
      require(configured_ && decode_canonical<LoadReply>(payload), "a LOAD has a right reply");
      return;
    case MessageType::kStats:
      require(asked.payload.empty() && decode_canonical<StatsReply>(payload), "STATS has a right reply");
      return;
    case MessageType::kShutdown:
      require(asked.payload.empty() && server_.stopped(), "an accepted SHUTDOWN stops the server");
      return;
    default: require(false, "a message that is no request is refused");
  }
}

void Session::check_lookup(const LookupRequest& request, const LookupReply& reply) const {
  require(ascending(request.tables), "the tables of a LOOKUP ascend");
  require(reply.values == configured_->values, "a lookup answers in the type that was configured");
  require(reply.tables.size() == request.tables.size(), "a lookup answers for the tables it was asked for");
  for (std::size_t i = 0; i < reply.tables.size(); ++i) {
    const TableRows& rows = reply.tables[i];
    require(rows.table == request.tables[i].table && rows.rows == request.tables[i].ids.size(),
            "a lookup answers for the ids it was asked for");
    require(rows.table < configured_->tables.size() && rows.dim == configured_->tables[rows.table].dim,
            "a lookup answers with the dim of the table");
  }
}

void Session::check_bounds(const Counters& counters) const {
  if (!configured_) return;
  const std::map<std::string, std::uint64_t> value(counters.begin(), counters.end());
  for (const TableSpec& table : configured_->tables) {
    const std::string prefix = "tables." + table.name + ".";
    require(value.at(prefix + "rows") <= capacity_rows(table), "a table keeps within its capacity");
    require(value.at(prefix + "lookups") == value.at(prefix + "hits") + value.at(prefix + "misses"),
            "a lookup hits or misses");
  }
  require(value.at("staleness.max") <= configured_->staleness, "the staleness bound holds");
}

// Another server with the same configuration can take what was saved.
void Session::check_saved_part(const SaveReply& reply) const {
  const std::filesystem::path part = Sandbox::instance().part();
  require(reply.name == part.filename() && reply.bytes == std::filesystem::file_size(part),
          "a SAVE says what it wrote");
  Server other(0);
  static_cast<void>(
      other.handle({0, 2}, make_frame({MessageType::kConfigure, 0, 2, 1}, configured_->encode())));
  const auto replies =
      other.handle({0, 2}, make_frame({MessageType::kLoad, 0, 2, 2}, LoadRequest{{part.string()}}.encode()));
  const Frame frame = parse_frame(replies.at(0).frame);
  if (frame.header.type != MessageType::kOk) {
    require(parse_error(frame.payload).code == static_cast<std::uint32_t>(ErrorCode::kCorruptPart) &&
                !Sandbox::instance().part_is_finite(),
            "what was saved can be loaded, unless the training has diverged");
    return;
  }
  require(LoadReply::decode(frame.payload).rows == reply.rows, "all rows that were saved are loaded");
}

void Session::settle_save(const BeginSaveRequest& request) {
  std::uint64_t& last = last_sequence_[{0, 2}];
  const Bytes payload = FinishSaveRequest{}.encode();
  while (last < kLastSequence) {
    const auto replies =
        server_.handle({0, 2}, make_frame({MessageType::kFinishSave, 0, 2, ++last}, payload));
    const Frame frame = parse_frame(replies.at(0).frame);
    if (frame.header.type == MessageType::kError) return;
    const FinishSaveReply reply = FinishSaveReply::decode(frame.payload);
    if (reply.done) {
      if (request.kind != SaveKind::kDelta) check_saved_part(reply.part);
      return;
    }
    std::this_thread::yield();
  }
}

// A request of the session's own, which must be accepted; nothing if all sequence numbers are used up.
std::optional<Bytes> Session::ask(MessageType type, const Bytes& payload) {
  for (const std::uint32_t channel : {2U, 0U, 1U}) {
    std::uint64_t& last = last_sequence_[{0, channel}];
    if (last == kLastSequence) continue;
    const Peer peer{0, static_cast<std::int32_t>(channel)};
    const auto replies = server_.handle(peer, make_frame({type, 0, channel, ++last}, payload));
    require(replies.size() == 1, "a request is answered");
    const Frame frame = parse_frame(replies[0].frame);
    require(frame.header.type == MessageType::kOk, "a right request is accepted at any time");
    return Bytes(frame.payload.begin(), frame.payload.end());
  }
  return std::nullopt;
}

// Without those of requests and errors, which every frame changes.
std::optional<Session::Counters> Session::counters() {
  const std::optional<Bytes> payload = ask(MessageType::kStats, {});
  if (!payload) return std::nullopt;
  Counters all = StatsReply::decode(*payload).counters;
  std::erase_if(all, [](const auto& counter) {
    return counter.first.starts_with("requests.") || counter.first.starts_with("errors.");
  });
  return all;
}

std::optional<Bytes> Session::known_rows() {
  LookupRequest request;
  for (const auto& [table, ids] : known_ids_) request.tables.push_back({table, {ids.begin(), ids.end()}});
  return ask(MessageType::kLookup, request.encode());
}

}  // namespace persia::fuzz
