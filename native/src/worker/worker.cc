#include "persia/worker.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "persia/gradient_sum.h"

namespace persia {
namespace {

// Saving, loading and a new day go through whole tables: they may take this many times the timeout of other
// requests.
constexpr double kBulkTimeouts = 30;

// "2", "0.25", "1e+06"
std::string seconds(std::chrono::duration<double> time) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", time.count());
  return text.data();
}

std::vector<TableGradients> gradients_for(const BatchPlan& plan, std::span<const TableSpec> tables,
                                          const std::vector<std::vector<float>>& sums,
                                          std::span<const double> factors, std::uint32_t server) {
  std::vector<TableGradients> parts;
  for (std::uint32_t t = 0; t < tables.size(); ++t) {
    const std::vector<std::uint32_t>& positions = plan.tables[t].by_server[server];
    if (positions.empty()) continue;
    TableGradients part{t, tables[t].dim, factors.empty() ? 1.0 : factors[t], {}, {}};
    part.ids.reserve(positions.size());
    part.gradients.reserve(positions.size() * part.dim);
    for (const std::uint32_t position : positions) {
      part.ids.push_back(plan.tables[t].unique[position]);
      const float* sum = sums[t].data() + std::size_t{position} * part.dim;
      part.gradients.insert(part.gradients.end(), sum, sum + part.dim);
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

std::vector<TableIds> ids_for(const BatchPlan& plan, std::uint32_t server) {
  std::vector<TableIds> parts;
  for (std::uint32_t t = 0; t < plan.tables.size(); ++t) {
    const std::vector<std::uint32_t>& positions = plan.tables[t].by_server[server];
    if (positions.empty()) continue;
    TableIds part{t, {}};
    part.ids.reserve(positions.size());
    for (const std::uint32_t position : positions) part.ids.push_back(plan.tables[t].unique[position]);
    parts.push_back(std::move(part));
  }
  return parts;
}

// Puts the rows that a server sent to their places in rows[t] [unique, dim]; returns how many are missing.
std::uint64_t scatter(const LookupReply& reply, const BatchPlan& plan, std::span<const TableSpec> tables,
                      std::uint32_t server, std::vector<std::vector<float>>& rows) {
  std::uint64_t missing = 0;
  std::size_t next = 0;
  for (std::uint32_t t = 0; t < tables.size(); ++t) {
    const std::vector<std::uint32_t>& positions = plan.tables[t].by_server[server];
    if (positions.empty()) continue;
    const std::uint32_t dim = tables[t].dim;
    if (next == reply.tables.size() || reply.tables[next].table != t || reply.tables[next].dim != dim ||
        reply.tables[next].rows != positions.size()) {
      throw TransportError("server rank " + std::to_string(server) +
                           ": LOOKUP: the reply does not match the request");
    }
    const TableRows& part = reply.tables[next++];
    for (std::size_t i = 0; i < positions.size(); ++i) {
      std::copy_n(part.weights.data() + i * dim, dim, rows[t].data() + std::size_t{positions[i]} * dim);
    }
    missing += part.missing.size();
  }
  return missing;
}

}  // namespace

Worker::Worker(WorkerOptions options, std::unique_ptr<ClientTransport> transport)
    : options_(std::move(options)), transport_(std::move(transport)) {
  check_tables(options_.tables);
  for (const std::uint32_t table : options_.table_of_feature) {
    if (table >= options_.tables.size())
      throw std::invalid_argument("a feature names a table that is not there");
  }
  if (options_.trainer >= options_.trainers) throw std::invalid_argument("trainer must be below trainers");
  if (options_.staleness < 1) throw std::invalid_argument("staleness must be 1 or more");
  if (options_.sync && options_.staleness != 1) throw std::invalid_argument("mode sync means staleness 1");
  if (!(options_.timeout.count() > 0) || options_.timeout.count() > 1e8) {
    throw std::invalid_argument("timeout_s must be above 0, and at most 1e8");
  }
}

void Worker::configure() {
  std::vector<std::optional<Bytes>> payloads;
  for (std::uint32_t s = 0; s < servers(); ++s) {
    payloads.push_back(ConfigureRequest{s, servers(), options_.trainers, options_.staleness, options_.sync,
                                        options_.seed, options_.tables}
                           .encode());
  }
  require_ok(exchange(Channel::kControl, MessageType::kConfigure, std::move(payloads), options_.timeout));
}

template <typename Payload>
Payload Worker::decode(const Reply& reply, MessageType type, std::size_t server) {
  try {
    return Payload::decode(reply.payload);
  } catch (const RequestError& error) {
    throw TransportError("server rank " + std::to_string(server) + ": " + std::string(name_of(type)) +
                         ": the reply is damaged: " + error.what());
  }
}

template <typename Payload>
std::vector<Payload> Worker::decode_all(const std::vector<Reply>& replies, MessageType type) {
  require_ok(replies);
  std::vector<Payload> result;
  for (std::size_t s = 0; s < replies.size(); ++s) result.push_back(decode<Payload>(replies[s], type, s));
  return result;
}

std::shared_ptr<LookedUp> Worker::lookup(std::uint64_t batch, std::span<const FeatureIds> features,
                                         bool training) {
  auto result = std::make_shared<LookedUp>();
  result->batch = batch;
  result->training = training;
  result->plan = plan_batch(features, options_.table_of_feature, options_.tables, servers());
  const BatchPlan& plan = result->plan;

  // Training lookups go to every server, also to those that have no id of the batch: each keeps count of it.
  std::vector<std::optional<Bytes>> payloads;
  for (std::uint32_t s = 0; s < servers(); ++s) {
    LookupRequest request{batch, training, ids_for(plan, s)};
    const bool skip = !training && request.tables.empty();
    payloads.push_back(skip ? std::nullopt : std::optional(request.encode()));
  }
  const std::vector<Reply> replies =
      exchange(Channel::kLookup, MessageType::kLookup, std::move(payloads), options_.timeout);
  if (training) give_back_partial(batch, replies);
  require_ok(replies);

  std::vector<std::vector<float>> rows;
  for (std::size_t t = 0; t < plan.tables.size(); ++t) {
    rows.emplace_back(plan.tables[t].unique.size() * options_.tables[t].dim);
    result->unique_ids += plan.tables[t].unique.size();
  }
  for (std::uint32_t s = 0; s < servers(); ++s) {
    if (replies[s].frame.empty()) continue;
    const auto reply = decode<LookupReply>(replies[s], MessageType::kLookup, s);
    result->missing_ids += scatter(reply, plan, options_.tables, s, rows);
  }
  for (std::size_t f = 0; f < plan.features.size(); ++f) {
    const std::uint32_t t = options_.table_of_feature[f];
    const std::uint32_t dim = options_.tables[t].dim;
    result->dims.push_back(dim);
    result->pooled.emplace_back(new float[plan.rows * dim]);
    pool(plan, f, options_.tables[t], rows[t], {result->pooled[f].get(), plan.rows * dim});
  }
  return result;
}

void Worker::update(LookedUp& lookup, std::span<const float* const> gradients, float scale,
                    std::span<const double> learning_rate_factors) {
  const BatchPlan& plan = lookup.plan;
  if (gradients.size() != plan.features.size())
    throw std::invalid_argument("there must be one gradient per feature");
  if (!std::isfinite(scale)) throw std::invalid_argument("scale is not finite");
  if (!learning_rate_factors.empty() && learning_rate_factors.size() != options_.tables.size())
    throw std::invalid_argument("there must be one learning rate factor per table");
  for (std::size_t t = 0; t < learning_rate_factors.size(); ++t) {
    if (!std::isfinite(learning_rate_factors[t]) || learning_rate_factors[t] < 0) {
      throw std::invalid_argument("the learning rate factor of table " + options_.tables[t].name +
                                  " is not a number >= 0");
    }
  }
  std::vector<std::vector<float>> sums;
  for (std::size_t t = 0; t < plan.tables.size(); ++t) {
    sums.emplace_back(plan.tables[t].unique.size() * options_.tables[t].dim);
  }
  for (std::size_t f = 0; f < plan.features.size(); ++f) {
    const std::uint32_t t = options_.table_of_feature[f];
    if (!all_finite({gradients[f], plan.rows * options_.tables[t].dim})) {
      throw std::invalid_argument("the gradient of feature " + std::to_string(f) + " is not finite");
    }
    add_gradients(plan, f, options_.tables[t], {gradients[f], plan.rows * options_.tables[t].dim}, scale,
                  sums[t]);
  }
  for (std::size_t t = 0; t < sums.size(); ++t) {
    if (!all_finite(sums[t])) {
      throw std::invalid_argument("a summed gradient of table " + options_.tables[t].name + " is not finite");
    }
  }
  take_return(lookup);
  std::vector<std::optional<Bytes>> payloads;
  for (std::uint32_t s = 0; s < servers(); ++s) {
    UpdateRequest request{lookup.batch, gradients_for(plan, options_.tables, sums, learning_rate_factors, s)};
    payloads.push_back(request.encode());
  }
  require_ok(exchange(Channel::kUpdate, MessageType::kUpdate, std::move(payloads), options_.timeout));
}

void Worker::discard(LookedUp& lookup) {
  take_return(lookup);
  require_ok(request_all(Channel::kUpdate, MessageType::kDiscard, DiscardRequest{lookup.batch}.encode(),
                         options_.timeout));
}

std::vector<SaveReply> Worker::save(const std::string& directory) {
  const SaveRequest request{std::filesystem::absolute(directory).string()};
  const auto replies =
      request_all(Channel::kControl, MessageType::kSave, request.encode(), options_.timeout * kBulkTimeouts);
  return decode_all<SaveReply>(replies, MessageType::kSave);
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

void Worker::take_return(LookedUp& lookup) const {
  if (!lookup.training)
    throw std::invalid_argument("this was no training lookup: it has nothing to give back");
  if (lookup.returned.exchange(true))
    throw std::invalid_argument("this lookup is updated or discarded already");
}

// If some servers refuse a training lookup, the others must not count the batch as outstanding for ever.
// Mode sync has no use for it: there a refusal ends the job, and a discard would wait for all trainers.
void Worker::give_back_partial(std::uint64_t batch, const std::vector<Reply>& replies) {
  std::vector<std::optional<Bytes>> payloads(replies.size());
  bool any_ok = false;
  bool any_refused = false;
  for (std::size_t s = 0; s < replies.size(); ++s) {
    if (replies[s].error) {
      any_refused = true;
    } else {
      any_ok = true;
      payloads[s] = DiscardRequest{batch}.encode();
    }
  }
  if (any_ok && any_refused && !options_.sync) {
    exchange(Channel::kLookup, MessageType::kDiscard, std::move(payloads), options_.timeout);
  }
}

void Worker::require_ok(const std::vector<Reply>& replies) {
  std::string errors;
  for (const Reply& reply : replies) {
    if (reply.error) errors += (errors.empty() ? "" : "; ") + *reply.error;
  }
  if (!errors.empty()) throw ServerError(errors);
}

std::vector<Worker::Reply> Worker::request_all(Channel channel, MessageType type, const Bytes& payload,
                                               std::chrono::duration<double> timeout) {
  return exchange(channel, type, std::vector<std::optional<Bytes>>(servers(), payload), timeout);
}

std::vector<Worker::Reply> Worker::exchange(Channel channel, MessageType type,
                                            std::vector<std::optional<Bytes>> payloads,
                                            std::chrono::duration<double> timeout) {
  Line& line = lines_[static_cast<std::size_t>(channel)];
  const std::lock_guard lock(line.mutex);
  const std::string operation(name_of(type));
  if (line.broken) throw TransportError(operation + ": an earlier request of this worker got no answer");
  const FrameHeader header{type, options_.trainer, static_cast<std::uint32_t>(channel), ++line.sequence};
  const Deadline deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout);
  std::vector<Reply> replies(payloads.size());
  std::uint32_t server = 0;
  line.broken = true;
  try {
    for (server = 0; server < payloads.size(); ++server) {
      if (payloads[server]) transport_->send(server, channel, make_frame(header, *payloads[server]));
    }
    for (server = 0; server < payloads.size(); ++server) {
      if (!payloads[server]) continue;
      Reply& reply = replies[server];
      std::optional<Bytes> frame = transport_->receive(server, channel, deadline);
      if (!frame) throw TransportError("no answer within " + seconds(timeout) + " s");
      reply.frame = std::move(*frame);
      const Frame parsed = parse_frame(reply.frame);
      const bool is_error = parsed.header.type == MessageType::kError;
      // A server that could not read the request's header answers with sequence 0.
      const bool matches =
          parsed.header.sequence == header.sequence || (is_error && parsed.header.sequence == 0);
      if (!matches || (!is_error && parsed.header.type != MessageType::kOk)) {
        throw TransportError("the reply is for another request");
      }
      reply.payload = parsed.payload;
      if (is_error) {
        const ErrorReply error = parse_error(parsed.payload);
        reply.error = "server rank " + std::to_string(server) + ": " + operation + ": " +
                      std::string(name_of(static_cast<ErrorCode>(error.code))) + ": " + error.text;
      }
    }
  } catch (const std::runtime_error& error) {
    throw TransportError("server rank " + std::to_string(server) + ": " + operation + ": " + error.what());
  }
  line.broken = false;
  return replies;
}

}  // namespace persia
