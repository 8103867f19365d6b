#include "persia/worker.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "persia/drafts.h"
#include "persia/gradient_sum.h"
#include "replies.h"

namespace persia {
namespace {

// What is to be collected for a pending request, which is finished with that.
std::shared_ptr<PostedRequest> take(std::shared_ptr<PostedRequest>& pending) {
  if (!pending) throw std::invalid_argument("this request is finished already");
  return std::exchange(pending, nullptr);
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

// An UPDATE for one server with all sums at zero; sum_of[t][p] becomes where the sum of the table's unique[p]
// is, for the ids of this server.
Bytes draft_sums(std::uint64_t batch, const BatchPlan& plan, std::span<const TableSpec> tables,
                 std::span<const double> factors, std::uint32_t server,
                 std::vector<std::vector<float*>>& sum_of,
                 std::vector<std::pair<std::uint32_t, std::span<float>>>& sums) {
  const std::vector<TableIds> ids = ids_for(plan, server);
  std::vector<UpdateShape> shapes;
  for (const TableIds& part : ids) {
    const double factor = factors.empty() ? 1.0 : factors[part.table];
    shapes.push_back({part.table, tables[part.table].dim, factor, part.ids});
  }
  RowsDraft draft = draft_update(batch, shapes);
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::uint32_t t = shapes[i].table;
    std::ranges::fill(draft.rows[i], 0.0f);
    float* at = draft.rows[i].data();
    for (const std::uint32_t position : plan.tables[t].by_server[server]) {
      sum_of[t][position] = at;
      at += shapes[i].dim;
    }
    sums.emplace_back(t, draft.rows[i]);
  }
  return std::move(draft.frame);
}

// row_of[t][p] becomes where in the reply the row of the table's unique[p] is, for the ids of this server;
// returns how many are missing.
std::uint64_t find_rows(const LookupReply& reply, const BatchPlan& plan, std::span<const TableSpec> tables,
                        std::uint32_t server, std::vector<std::vector<const float*>>& row_of) {
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
    const float* row = part.weights.data();
    for (const std::uint32_t position : positions) {
      row_of[t][position] = row;
      row += dim;
    }
    missing += part.missing.size();
  }
  return missing;
}

}  // namespace

Worker::Worker(WorkerOptions options, std::unique_ptr<ClientTransport> transport)
    : options_(std::move(options)),
      transport_(std::move(transport)),
      lines_{{{*transport_, Channel::kLookup, options_.trainer, options_.staleness},
              {*transport_, Channel::kUpdate, options_.trainer, options_.staleness},
              {*transport_, Channel::kControl, options_.trainer, 1}}} {
  check_tables(options_.tables);
  for (const FeatureSpec& feature : options_.features) check_feature(feature, options_.tables.size());
  if (options_.trainer >= options_.trainers) throw std::invalid_argument("trainer must be below trainers");
  if (options_.staleness < 1) throw std::invalid_argument("staleness must be 1 or more");
  if (!(options_.timeout.count() > 0) || options_.timeout.count() > 1e8) {
    throw std::invalid_argument("timeout_s must be above 0, and at most 1e8");
  }
}

void Worker::configure() {
  std::vector<std::optional<Bytes>> frames;
  for (std::uint32_t s = 0; s < servers(); ++s) {
    const ConfigureRequest request{s,
                                   servers(),
                                   options_.trainers,
                                   options_.staleness,
                                   options_.combine,
                                   options_.seed,
                                   options_.tables,
                                   options_.wire_values};
    frames.emplace_back(drafted(request.encode()));
  }
  require_ok(exchange(Channel::kControl, MessageType::kConfigure, std::move(frames), options_.timeout));
}

std::vector<std::size_t> Worker::buffer_floats(std::size_t rows) const {
  std::vector<std::size_t> floats(options_.tables.size());
  for (const FeatureSpec& spec : options_.features) {
    floats[spec.table] += rows * spec.width(options_.tables[spec.table].dim);
  }
  return floats;
}

// Decides where each feature is.
void Worker::place(LookedUp& lookup, std::vector<Buffer> buffers) const {
  const std::vector<std::size_t> needed = buffer_floats(lookup.plan.rows);
  if (!buffers.empty() && buffers.size() != needed.size())
    throw std::invalid_argument("there must be one buffer per table, or none");
  for (std::size_t t = 0; t < needed.size(); ++t) {
    if (buffers.empty()) {
      lookup.buffers.push_back({std::shared_ptr<float[]>(new float[needed[t]]), needed[t]});
      continue;
    }
    if (buffers[t].floats < needed[t]) {
      throw std::invalid_argument("the buffer of table " + options_.tables[t].name + " has " +
                                  std::to_string(buffers[t].floats) + " floats, and this batch needs " +
                                  std::to_string(needed[t]));
    }
    lookup.buffers.push_back({std::move(buffers[t].data), needed[t]});
  }
  std::vector<std::size_t> next(needed.size());
  for (const FeatureSpec& spec : options_.features) {
    const std::uint32_t dim = options_.tables[spec.table].dim;
    lookup.features.push_back(spec);
    lookup.dims.push_back(dim);
    lookup.starts.push_back(next[spec.table]);
    next[spec.table] += lookup.plan.rows * spec.width(dim);
  }
}

PendingLookup Worker::begin_lookup(std::uint64_t batch, std::span<const FeatureIds> features, bool training,
                                   std::vector<Buffer> buffers) {
  auto result = std::make_shared<LookedUp>();
  result->batch = batch;
  result->training = training;
  result->plan = plan_batch(features, options_.features, options_.tables, servers());
  result->truncated_ids = result->plan.truncated;
  place(*result, std::move(buffers));
  const BatchPlan& plan = result->plan;

  // Training lookups go to every server, also to those that have no id of the batch: each keeps count of it.
  std::vector<std::optional<Bytes>> frames;
  for (std::uint32_t s = 0; s < servers(); ++s) {
    LookupRequest request{batch, training, ids_for(plan, s)};
    const bool skip = !training && request.tables.empty();
    frames.push_back(skip ? std::nullopt : std::optional(drafted(request.encode())));
  }
  return {std::move(result),
          line(Channel::kLookup).post(MessageType::kLookup, std::move(frames), options_.timeout)};
}

std::shared_ptr<LookedUp> Worker::finish(PendingLookup& pending) {
  const std::vector<Reply> replies = line(Channel::kLookup).collect(*take(pending.request));
  std::shared_ptr<LookedUp> result = std::move(pending.lookup);
  const BatchPlan& plan = result->plan;
  if (result->training) give_back_partial(result->batch, replies);
  require_ok(replies);

  std::vector<std::vector<const float*>> row_of;
  for (const TablePlan& table : plan.tables) {
    row_of.emplace_back(table.unique.size());
    result->unique_ids += table.unique.size();
  }
  std::vector<LookupReply> decoded;  // views of the replies; some of them may be copies
  for (std::uint32_t s = 0; s < servers(); ++s) {
    if (replies[s].frame.empty()) continue;
    decoded.push_back(decode<LookupReply>(replies[s], MessageType::kLookup, s));
    if (decoded.back().values != options_.wire_values) {
      throw TransportError("server rank " + std::to_string(s) + ": LOOKUP: values are " +
                           name_of(decoded.back().values) + ", and this worker wants " +
                           name_of(options_.wire_values));
    }
    result->missing_ids += find_rows(decoded.back(), plan, options_.tables, s, row_of);
  }
  for (std::size_t f = 0; f < plan.features.size(); ++f) {
    const FeatureSpec& spec = options_.features[f];
    pool(plan, f, spec, result->dims[f], row_of[spec.table], result->pooled(f));
  }
  return result;
}

std::shared_ptr<LookedUp> Worker::lookup(std::uint64_t batch, std::span<const FeatureIds> features,
                                         bool training, std::vector<Buffer> buffers) {
  PendingLookup pending = begin_lookup(batch, features, training, std::move(buffers));
  return finish(pending);
}

PendingReturn Worker::begin_update(LookedUp& lookup, std::span<const float* const> gradients, float scale,
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
  std::vector<std::vector<float*>> sum_of;
  for (const TablePlan& table : plan.tables) sum_of.emplace_back(table.unique.size());
  std::vector<std::pair<std::uint32_t, std::span<float>>> sums;  // by table
  std::vector<std::optional<Bytes>> frames;
  for (std::uint32_t s = 0; s < servers(); ++s) {
    frames.emplace_back(
        draft_sums(lookup.batch, plan, options_.tables, learning_rate_factors, s, sum_of, sums));
  }
  bool finite = true;
  for (std::size_t f = 0; f < plan.features.size(); ++f) {
    const FeatureSpec& spec = options_.features[f];
    const std::uint32_t dim = options_.tables[spec.table].dim;
    const std::span<const float> gradient(gradients[f], plan.rows * spec.width(dim));
    finite = add_gradients(plan, f, spec, dim, gradient, scale, sum_of[spec.table]) && finite;
  }
  std::size_t bad = 0;  // A gradient that is not finite makes a sum that is not.
  while (bad < sums.size() && all_finite(sums[bad].second)) ++bad;
  if (!finite || bad < sums.size()) check_gradients(plan, gradients);
  if (bad < sums.size()) {
    throw std::invalid_argument("a summed gradient of table " + options_.tables[sums[bad].first].name +
                                " is not finite");
  }
  take_return(lookup);
  if (options_.wire_values != WeightType::kFloat32) {
    for (std::optional<Bytes>& frame : frames) {
      UpdateRequest request = UpdateRequest::decode(payload_of(*frame));
      request.values = options_.wire_values;
      frame = drafted(request.encode());
    }
  }
  return {line(Channel::kUpdate).post(MessageType::kUpdate, std::move(frames), options_.timeout)};
}

void Worker::check_gradients(const BatchPlan& plan, std::span<const float* const> gradients) const {
  for (std::size_t f = 0; f < plan.features.size(); ++f) {
    const FeatureSpec& spec = options_.features[f];
    if (!all_finite({gradients[f], plan.rows * spec.width(options_.tables[spec.table].dim)})) {
      throw std::invalid_argument("the gradient of feature " + std::to_string(f) + " is not finite");
    }
  }
}

PendingReturn Worker::begin_discard(LookedUp& lookup) {
  take_return(lookup);
  std::vector<std::optional<Bytes>> frames(servers(), drafted(DiscardRequest{lookup.batch}.encode()));
  return {line(Channel::kUpdate).post(MessageType::kDiscard, std::move(frames), options_.timeout)};
}

void Worker::finish(PendingReturn& pending) {
  require_ok(line(Channel::kUpdate).collect(*take(pending.request)));
}

void Worker::update(LookedUp& lookup, std::span<const float* const> gradients, float scale,
                    std::span<const double> learning_rate_factors) {
  PendingReturn pending = begin_update(lookup, gradients, scale, learning_rate_factors);
  finish(pending);
}

void Worker::discard(LookedUp& lookup) {
  PendingReturn pending = begin_discard(lookup);
  finish(pending);
}

void Worker::take_return(LookedUp& lookup) const {
  if (!lookup.training)
    throw std::invalid_argument("this was no training lookup: it has nothing to give back");
  if (lookup.returned.exchange(true))
    throw std::invalid_argument("this lookup is updated or discarded already");
}

// If some servers refuse a training lookup, the others must not count the batch as outstanding for ever.
// Where steps are combined it has no use: a refusal ends the job, and a discard would wait for all trainers.
void Worker::give_back_partial(std::uint64_t batch, const std::vector<Reply>& replies) {
  std::vector<std::optional<Bytes>> frames(replies.size());
  bool any_ok = false;
  bool any_refused = false;
  for (std::size_t s = 0; s < replies.size(); ++s) {
    if (replies[s].error) {
      any_refused = true;
    } else {
      any_ok = true;
      frames[s] = drafted(DiscardRequest{batch}.encode());
    }
  }
  if (any_ok && any_refused && !options_.combine) {
    exchange(Channel::kLookup, MessageType::kDiscard, std::move(frames), options_.timeout);
  }
}

void Worker::require_ok(const std::vector<Reply>& replies) {
  std::string errors;
  for (const Reply& reply : replies) {
    if (reply.error) errors += (errors.empty() ? "" : "; ") + *reply.error;
  }
  if (!errors.empty()) throw ServerError(errors);
}

std::vector<Reply> Worker::request_all(Channel channel, MessageType type, const Bytes& payload,
                                       std::chrono::duration<double> timeout) {
  return exchange(channel, type, std::vector<std::optional<Bytes>>(servers(), drafted(payload)), timeout);
}

std::vector<Reply> Worker::exchange(Channel channel, MessageType type,
                                    std::vector<std::optional<Bytes>> frames,
                                    std::chrono::duration<double> timeout) {
  return line(channel).collect(*line(channel).post(type, std::move(frames), timeout));
}

}  // namespace persia
