// UPDATE and DISCARD: gradients reach rows here, and nowhere else.
#include <array>
#include <cmath>
#include <new>

#include "persia/gradient_sum.h"
#include "persia/ids.h"
#include "persia/part_format.h"
#include "persia/server.h"

namespace persia {
namespace {

Bytes make_ok(const FrameHeader& request) {
  FrameHeader header = request;
  header.type = MessageType::kOk;
  return make_frame(header, {});
}

// Of each table. Trainers whose gradients make one step must mean the same step.
std::vector<double> factors_of(std::span<const UpdateRequest* const> updates,
                               const std::vector<TableSpec>& tables) {
  std::vector<std::optional<double>> found(tables.size());
  for (const UpdateRequest* update : updates) {
    for (const TableGradients& each : update->tables) {
      std::optional<double>& factor = found[each.table];
      if (factor && *factor != each.learning_rate_factor) {
        throw RequestError(ErrorCode::kBatchMismatch,
                           "trainers send different learning rate factors for table " +
                               tables[each.table].name + " in batch " + std::to_string(update->batch));
      }
      factor = each.learning_rate_factor;
    }
  }
  std::vector<double> factors;
  for (const std::optional<double>& factor : found) factors.push_back(factor.value_or(1));
  return factors;
}

}  // namespace

void Server::check_ids(std::uint32_t table, std::span<const std::uint64_t> ids) const {
  const ConfigureRequest& request = configured().request;
  if (table >= request.tables.size()) {
    throw RequestError(ErrorCode::kUnknownTable, "there is no table " + std::to_string(table));
  }
  for (const std::uint64_t id : ids) {
    if (!request.tables[table].owns(id)) {
      throw RequestError(ErrorCode::kWrongPrefix,
                         "id " + hex64(id) + " has not the prefix of table " + request.tables[table].name);
    }
    if (server_of(id, request.servers) != index_) {
      throw RequestError(ErrorCode::kWrongServer, "id " + hex64(id) + " belongs to server " +
                                                      std::to_string(server_of(id, request.servers)));
    }
  }
}

void Server::check_update(const UpdateRequest& update) const {
  const Configured& state = configured();
  for (const TableGradients& table : update.tables) {
    check_ids(table.table, table.ids);
    if (table.dim != state.tables.dim(table.table)) {
      throw RequestError(ErrorCode::kMalformed,
                         "gradients have another dim than table " + state.request.tables[table.table].name);
    }
    const TableSpec& spec = state.request.tables[table.table];
    if (!std::isfinite(static_cast<float>(spec.optimizer.learning_rate * table.learning_rate_factor))) {
      throw RequestError(ErrorCode::kNotFinite,
                         "the learning rate of table " + spec.name + " times its factor is not finite");
    }
    if (!all_finite(table.gradients)) {
      throw RequestError(ErrorCode::kNotFinite, "a gradient of table " + spec.name + " is not finite");
    }
  }
}

std::vector<Outgoing> Server::change(Peer peer, const FrameHeader& header,
                                     std::span<const std::byte> payload) {
  Configured& state = configured();
  Held held{peer, header, {}, header.type == MessageType::kDiscard};
  if (held.discarded) {
    held.update.batch = DiscardRequest::decode(payload).batch;
  } else {
    held.update = UpdateRequest::decode(payload);
    if (held.update.values != state.request.values) {
      throw RequestError(ErrorCode::kMalformed, std::string("values are ") + name_of(held.update.values) +
                                                    ", and CONFIGURE says " + name_of(state.request.values));
    }
  }
  state.staleness.check_outstanding(header.trainer, held.update.batch);
  check_update(held.update);
  if (state.request.combine) {
    for (TableGradients& table : held.update.tables) table.gradients.keep();
    return hold(std::move(held));
  }
  if (held.discarded) {
    state.staleness.discarded(header.trainer, held.update.batch);
  } else {
    apply(std::array<const UpdateRequest*, 1>{&held.update});
    state.staleness.updated(header.trainer, held.update.batch);
  }
  std::vector<Outgoing> replies;
  replies.push_back({peer, make_ok(header)});
  return replies;
}

// The gradients of a batch wait here until those of all trainers are there: they are one optimizer step, as
// if one trainer had seen all of the batch. Batches do not wait for each other.
std::vector<Outgoing> Server::hold(Held held) {
  const Configured& state = configured();
  const std::uint64_t batch = held.update.batch;
  const std::uint32_t trainer = held.header.trainer;
  check_completes(batch, trainer);
  std::map<std::uint32_t, Held>& of_batch = held_[batch];
  of_batch.emplace(trainer, std::move(held));
  if (of_batch.size() < state.request.trainers) return {};
  return combine(held_.extract(batch).mapped());
}

// A trainer that has passed a batch by would leave the others waiting for it for ever.
void Server::check_completes(std::uint64_t batch, std::uint32_t trainer) const {
  const Configured& state = configured();
  const auto require_may_come = [&](std::uint32_t other, std::uint64_t awaited) {
    if (state.staleness.may_come(other, awaited)) return;
    throw RequestError(ErrorCode::kBatchMismatch,
                       "trainer " + std::to_string(trainer) + " sends batch " + std::to_string(batch) +
                           ", and trainer " + std::to_string(other) + " has passed batch " +
                           std::to_string(awaited) + " by, which others wait with");
  };
  const auto own = held_.find(batch);
  if (own != held_.end() && own->second.contains(trainer)) {
    throw RequestError(ErrorCode::kReplayed, "batch " + std::to_string(batch) + " of trainer " +
                                                 std::to_string(trainer) + " is held already");
  }
  for (std::uint32_t other = 0; other < state.request.trainers; ++other) {
    if (own == held_.end() || !own->second.contains(other)) require_may_come(other, batch);
  }
  for (const auto& [awaited, trainers] : held_) {
    if (!trainers.contains(trainer)) require_may_come(trainer, awaited);
  }
}

std::vector<Outgoing> Server::combine(const std::map<std::uint32_t, Held>& complete) {
  Configured& state = configured();
  std::vector<const UpdateRequest*> updates;
  for (const auto& [number, each] : complete) {
    if (!each.discarded) updates.push_back(&each.update);
  }
  std::vector<Outgoing> replies;
  // All trainers wait for this: each must hear of a failure.
  const auto fail_all = [&](ErrorCode code, const char* text) {
    for (const auto& [number, each] : complete) replies.push_back(fail(each.peer, each.header, code, text));
  };
  try {
    if (!updates.empty()) apply(updates);
  } catch (const RequestError& error) {
    fail_all(error.code(), error.what());
    return replies;
  } catch (const std::bad_alloc&) {
    fail_all(ErrorCode::kOutOfMemory, "the server has no memory left for this update");
    return replies;
  }
  for (const auto& [number, each] : complete) {
    if (each.discarded) {
      state.staleness.discarded(number, each.update.batch);
    } else {
      state.staleness.updated(number, each.update.batch);
    }
    replies.push_back({each.peer, make_ok(each.header)});
  }
  return replies;
}

void Server::apply(std::span<const UpdateRequest* const> requests) {
  std::vector<TableSet::Update> updates;
  for (const UpdateRequest* request : requests) {
    for (const TableGradients& table : request->tables) {
      updates.push_back({table.table, table.ids, table.gradients});
    }
  }
  Configured& state = configured();
  std::vector<StepOptions> options;
  for (const double factor : factors_of(requests, state.request.tables)) {
    options.push_back({factor, state.step});
  }
  state.tables.update(updates, options);
  ++state.step;
}

}  // namespace persia
