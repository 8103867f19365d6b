#include "persia/server.h"

#include <algorithm>
#include <new>
#include <stdexcept>

#include "persia/drafts.h"
#include "persia/wire_values.h"

namespace persia {
namespace {

constexpr std::uint32_t kMaxTrainers = 65536;
constexpr std::uint32_t kMaxServers = 65536;
constexpr std::uint32_t kMaxStaleness = 65536;

void expect_empty(std::span<const std::byte> payload) {
  Reader(payload).end();
}

}  // namespace

std::vector<Outgoing> Server::handle(Peer peer, std::span<const std::byte> bytes) {
  FrameHeader header;
  try {
    const Frame frame = parse_frame(bytes);
    header = frame.header;
    if (header.channel != static_cast<std::uint32_t>(peer.channel)) {
      throw RequestError(ErrorCode::kMalformed, "a frame of channel " + std::to_string(header.channel) +
                                                    " came on channel " + std::to_string(peer.channel));
    }
    admit(header);
    ++requests_[header.type];
    if (header.type == MessageType::kUpdate || header.type == MessageType::kDiscard) {
      return change(peer, header, frame.payload);
    }
    std::vector<Outgoing> replies;
    Bytes reply = answer(header, frame.payload);
    check_reply_size(reply.size());
    header.type = MessageType::kOk;
    seal_frame(header, reply);
    replies.push_back({peer, std::move(reply)});
    return replies;
  } catch (const RequestError& error) {
    return {fail(peer, header, error.code(), error.what())};
  } catch (const std::bad_alloc&) {
    return {fail(peer, header, ErrorCode::kOutOfMemory, "the server has no memory left for this request")};
  } catch (const std::exception& error) {
    return {fail(peer, header, ErrorCode::kInternal, error.what())};
  }
}

void Server::check_reply_size(std::uint64_t bytes) const {
  if (bytes <= options_.max_frame_bytes) return;
  throw RequestError(ErrorCode::kTooLarge, "the reply would have " + std::to_string(bytes) +
                                               " bytes; at most " + std::to_string(options_.max_frame_bytes) +
                                               " are sent at once; raise --max-buffered-bytes");
}

Outgoing Server::refuse(Peer peer, const RequestError& error) {
  return fail(peer, FrameHeader{}, error.code(), error.what());
}

Outgoing Server::fail(Peer peer, const FrameHeader& header, ErrorCode code, const char* text) {
  ++errors_[code];
  return {peer, make_error(header, code, text)};
}

void Server::admit(const FrameHeader& header) {
  if (header.type == MessageType::kOk || header.type == MessageType::kError) {
    throw RequestError(ErrorCode::kUnknownType, "a server takes no replies");
  }
  const std::uint32_t trainers = configured_ ? configured_->request.trainers : kMaxTrainers;
  if (header.trainer >= trainers) {
    throw RequestError(ErrorCode::kUnknownTrainer, "trainer " + std::to_string(header.trainer) + " of " +
                                                       std::to_string(trainers) + " trainers");
  }
  std::uint64_t& last = last_sequence_[{header.trainer, header.channel}];
  if (header.sequence <= last) {
    throw RequestError(ErrorCode::kReplayed, "sequence " + std::to_string(header.sequence) + " comes after " +
                                                 std::to_string(last));
  }
  last = header.sequence;
}

Bytes Server::answer(const FrameHeader& header, std::span<const std::byte> payload) {
  switch (header.type) {
    case MessageType::kConfigure: return drafted(configure(payload));
    case MessageType::kLookup: return lookup(header, payload);
    case MessageType::kSave: return drafted(save(payload));
    case MessageType::kBeginSave: return drafted(begin_save(payload));
    case MessageType::kFinishSave: return drafted(finish_save(payload));
    case MessageType::kLoad: return drafted(load(payload));
    case MessageType::kAdvanceDay: return drafted(advance_day(payload));
    case MessageType::kStats: expect_empty(payload); return drafted(stats().encode());
    case MessageType::kShutdown:
      expect_empty(payload);
      background_.reset();
      stopped_ = true;
      return drafted({});
    default: throw RequestError(ErrorCode::kUnknownType, "the message type is unknown");
  }
}

Bytes Server::configure(std::span<const std::byte> payload) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw RequestError(ErrorCode::kBadConfig, what);
  };
  ConfigureRequest request = ConfigureRequest::decode(payload);
  if (configured_) {
    require(request.encode() == configured_->request.encode(), "the server is configured otherwise already");
    return {};
  }
  require(request.server == index_,
          "this is server " + std::to_string(index_) + ", not server " + std::to_string(request.server));
  require(request.servers > index_ && request.servers <= kMaxServers, "servers must be from 1 to 65536");
  require(request.trainers >= 1 && request.trainers <= kMaxTrainers, "trainers must be from 1 to 65536");
  require(request.staleness >= 1 && request.staleness <= kMaxStaleness, "staleness must be from 1 to 65536");
  require(name_of(request.values) != nullptr, "unknown type of values");
  StalenessTracker staleness(request.trainers, request.staleness);
  try {
    check_tables(request.tables);
    TableSet tables(request.tables, request.seed, request.servers, team_);
    configured_.emplace(Configured{std::move(request), std::move(tables), std::move(staleness), 0});
  } catch (const std::invalid_argument& error) {
    throw RequestError(ErrorCode::kBadConfig, error.what());
  }
  return {};
}

Bytes Server::lookup(const FrameHeader& header, std::span<const std::byte> payload) {
  Configured& state = configured();
  const LookupRequest request = LookupRequest::decode(payload);
  std::uint64_t reply_bytes = kHeaderBytes + 8;
  for (const TableIds& table : request.tables) {
    check_ids(table.table, table.ids);
    const std::uint64_t row_bytes = wire_row_bytes(state.request.values, state.tables.dim(table.table));
    reply_bytes += 24 + table.ids.size() * (row_bytes + 4);
  }
  check_reply_size(reply_bytes);  // before anything changes
  if (request.training) state.staleness.check_lookup(header.trainer, request.batch);
  std::vector<LookupShape> shapes;
  for (const TableIds& table : request.tables) {
    shapes.push_back({table.table, state.tables.dim(table.table), table.ids.size()});
  }
  RowsDraft draft = draft_lookup_reply(shapes);
  std::vector<TableSet::Lookup> lookups;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    lookups.push_back({shapes[i].table, request.tables[i].ids, draft.rows[i]});
  }
  auto missing = state.tables.lookup(lookups, request.training);
  const bool as_drafted =
      state.request.values == WeightType::kFloat32 &&
      std::ranges::all_of(missing, [](const auto& positions) { return positions.empty(); });
  if (!as_drafted) {
    LookupReply reply;
    reply.values = state.request.values;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const auto& [table, dim, rows] = shapes[i];
      reply.tables.push_back({table, dim, rows, Floats::view(draft.rows[i]), std::move(missing[i])});
    }
    draft.frame = drafted(reply.encode());
  }
  if (request.training) state.staleness.looked_up(header.trainer, request.batch);
  return std::move(draft.frame);
}

Bytes Server::load(std::span<const std::byte> payload) {
  Configured& state = configured();
  const LoadRequest request = LoadRequest::decode(payload);
  require_cut(state);
  const std::vector<TableSpec>& tables = state.request.tables;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    if (state.tables.stores()[t]->statistics().rows > 0)
      throw RequestError(ErrorCode::kNotEmpty, "table " + tables[t].name + " has rows already");
  }
  PartSize size;
  std::optional<TableSet> fresh = attached(state, request.paths, size);
  if (!fresh) {
    fresh.emplace(tables, state.request.seed, state.request.servers, team_);
    size = read_parts(request.paths, index_, state.request.servers, tables, fresh->stores(), &team_);
  }
  if (size.cut != 0) {
    for (const auto& store : fresh->stores()) store->start_log();
  }
  state.tables = std::move(*fresh);
  state.step = size.step;
  state.cut = size.cut;
  return LoadReply{size.rows, size.bytes}.encode();
}

Bytes Server::advance_day(std::span<const std::byte> payload) {
  Configured& state = configured();
  const AdvanceDayRequest request = AdvanceDayRequest::decode(payload);
  if (state.staleness.any_outstanding()) {
    throw RequestError(ErrorCode::kBatchesOutstanding, "batches are outstanding: they belong to one day");
  }
  state.tables.advance_day(request.day);
  return {};
}

StatsReply Server::stats() const {
  StatsReply reply;
  const auto count = [&](std::string name, std::uint64_t value) {
    reply.counters.emplace_back(std::move(name), value);
  };
  count("server", index_);
  count("threads", team_.size());
  for (const auto& [type, value] : requests_) count("requests." + std::string(name_of(type)), value);
  for (const auto& [code, value] : errors_) count("errors." + std::string(name_of(code)), value);
  count("buffered.bytes", buffered_.bytes);
  count("buffered.most_bytes", buffered_.most_bytes);
  if (buffered_.limit_bytes > 0) count("buffered.limit_bytes", buffered_.limit_bytes);
  if (!options_.segments.empty()) {
    count("segments.written", segments_.written);
    count("segments.failed", segments_.failed);
    count("segments.attached", segments_.attached);
    count("segments.refused", segments_.refused);
  }
  if (!configured_) return reply;
  for (std::size_t t = 0; t < configured_->request.tables.size(); ++t) {
    const std::string prefix = "tables." + configured_->request.tables[t].name + ".";
    const StoreStatistics table = configured_->tables.stores()[t]->statistics();
    count(prefix + "rows", table.rows);
    count(prefix + "bytes", table.bytes);
    count(prefix + "lookups", table.lookups);
    count(prefix + "hits", table.hits);
    count(prefix + "misses", table.misses);
    count(prefix + "created", table.created);
    count(prefix + "not_admitted", table.not_admitted);
    count(prefix + "evicted", table.evicted);
    count(prefix + "expired", table.expired);
    count(prefix + "updates", table.updates);
    count(prefix + "updates_missing", table.updates_missing);
    count(prefix + "saturated", table.saturated);
  }
  count("step", configured_->step);
  count("staleness.max", configured_->staleness.max());
  const auto& histogram = configured_->staleness.histogram();
  for (std::size_t n = 1; n < histogram.size(); ++n) {
    if (histogram[n] > 0) count("staleness.histogram." + std::to_string(n), histogram[n]);
  }
  return reply;
}

Server::Configured& Server::configured() {
  if (!configured_) throw RequestError(ErrorCode::kNotConfigured, "the server has no CONFIGURE yet");
  return *configured_;
}

const Server::Configured& Server::configured() const {
  if (!configured_) throw RequestError(ErrorCode::kNotConfigured, "the server has no CONFIGURE yet");
  return *configured_;
}

}  // namespace persia
