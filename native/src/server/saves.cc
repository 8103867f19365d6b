// SAVE, BEGIN_SAVE and FINISH_SAVE.
#include "persia/server.h"

namespace persia {

// Of the save that was begun. Throws what has become of it.
std::optional<SaveReply> Server::poll_save() {
  try {
    std::optional<SaveReply> done = background_->poll();
    if (done) {
      settle_cut(true);
      settle_segment();
    }
    return done;
  } catch (const RequestError&) {
    settle_cut(false);
    settle_segment();
    throw;
  }
}

void Server::settle_cut(bool written) {
  if (cut_under_way_ == 0) return;
  for (const auto& store : configured().tables.stores()) store->settle_cut(written);
  if (written) configured().cut = written_cut_ = cut_under_way_;
  cut_under_way_ = 0;
}

// Throws unless what the tables hold now is a consistent cut, and nobody else is writing it.
void Server::require_cut(const Configured& state) {
  if (state.staleness.any_outstanding()) {
    throw RequestError(ErrorCode::kBatchesOutstanding,
                       "batches are outstanding: this would be no consistent cut");
  }
  bool under_way = false;
  try {
    under_way = background_ && !poll_save();
  } catch (const RequestError&) {  // it has failed, which FINISH_SAVE says
  }
  if (under_way)
    throw RequestError(ErrorCode::kSaveUnderWay, "a save is under way: FINISH_SAVE it, or give it up");
}

Bytes Server::save(std::span<const std::byte> payload) {
  const Configured& state = configured();
  const SaveRequest request = SaveRequest::decode(payload);
  require_cut(state);
  const PartSize size =
      write_part(request.directory, index_, state.request.tables, state.tables.stores(), state.step, &team_);
  return SaveReply{part_name(index_), size.rows, size.bytes}.encode();
}

Bytes Server::begin_save(std::span<const std::byte> payload) {
  Configured& state = configured();
  const BeginSaveRequest request = BeginSaveRequest::decode(payload);
  require_cut(state);
  CutName cut{request.cut, std::nullopt};
  if (request.kind == SaveKind::kDelta) {
    if (state.cut == 0)
      throw RequestError(ErrorCode::kNoBase, "there is no base that a delta could follow: save one first");
    if (state.cut == request.cut)
      throw RequestError(ErrorCode::kMalformed, "a delta has the number of the cut that it follows");
    cut.follows = state.cut;
  }
  background_.reset();
  written_cut_ = 0;
  if (request.kind != SaveKind::kFull) {
    cut_under_way_ = request.cut;
    for (const auto& store : state.tables.stores()) {
      if (state.cut == 0) store->start_log();
      store->cut();
    }
  }
  // Between two requests the helpers of the team sleep: nobody changes the tables, and the snapshot is one
  // cut.
  try {
    background_ = std::make_unique<BackgroundSave>(temporary_part(request.directory, index_), [&] {
      const PartSize size = write_part(request.directory, index_, state.request.tables, state.tables.stores(),
                                       state.step, nullptr, cut);
      keep_segment(state, size);
      return SaveReply{part_name(index_), size.rows, size.bytes};
    });
  } catch (...) {
    settle_cut(false);
    throw;
  }
  if (!options_.segments.empty()) segment_step_ = state.step;
  return {};
}

Bytes Server::finish_save(std::span<const std::byte> payload) {
  Configured& state = configured();
  const FinishSaveRequest request = FinishSaveRequest::decode(payload);
  if (request.give_up) {
    // A cut that was written and is given up has left the chain, and what has changed before it is forgotten.
    if (written_cut_ != 0) state.cut = 0;
    written_cut_ = 0;
    background_.reset();
    settle_cut(false);
    segment_step_.reset();
    return FinishSaveReply{}.encode();
  }
  if (!background_) throw RequestError(ErrorCode::kNoSave, "no save was begun");
  const std::optional<SaveReply> done = poll_save();
  return (done ? FinishSaveReply{true, *done} : FinishSaveReply{}).encode();
}

}  // namespace persia
