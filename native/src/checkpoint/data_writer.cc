#include "data_writer.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "on_all_threads.h"
#include "persia/codec.h"
#include "persia/ids.h"

namespace persia {
namespace {

constexpr std::uint64_t kBuffer = 1 << 20;

struct Chunk {
  const DataSource* source;
  std::uint64_t first;
  std::uint64_t count;
  std::uint64_t offset;  // in the file
};

std::vector<Chunk> chunks_of(std::span<const DataSource> sources, std::uint64_t offset) {
  std::vector<Chunk> chunks;
  for (const DataSource& source : sources) {
    if (source.item_bytes == 0) continue;
    const std::uint64_t most = std::max<std::uint64_t>(1, kBuffer / source.item_bytes);
    for (std::uint64_t first = 0; first < source.items; first += most) {
      const std::uint64_t count = std::min(most, source.items - first);
      chunks.push_back({&source, first, count, offset});
      offset += count * source.item_bytes;
    }
  }
  return chunks;
}

// Lets chunks through one at a time, in order.
class Turns {
 public:
  // False if another thread has failed, whose turn never ends.
  bool await(std::uint64_t number) const {
    for (;;) {
      const std::uint64_t now = turn_.load(std::memory_order_acquire);
      if (now == number) return true;
      if (now == kFailed) return false;
      turn_.wait(now, std::memory_order_acquire);
    }
  }
  void pass_to(std::uint64_t number) {
    std::uint64_t now = number - 1;
    turn_.compare_exchange_strong(now, number, std::memory_order_acq_rel);  // unless somebody has failed
    turn_.notify_all();
  }
  void fail() {
    turn_.store(kFailed, std::memory_order_release);
    turn_.notify_all();
  }

 private:
  static constexpr std::uint64_t kFailed = std::numeric_limits<std::uint64_t>::max();
  std::atomic<std::uint64_t> turn_ = 0;
};

}  // namespace

std::uint64_t write_data(File& file, std::uint64_t offset, std::span<const DataSource> sources,
                         ThreadTeam* team) {
  const std::vector<Chunk> chunks = chunks_of(sources, offset);
  std::atomic<std::uint64_t> next = 0;
  Turns turns;
  Xxh64 hash(0);
  const auto work = [&](std::uint32_t) {
    Bytes buffer;
    try {
      for (;;) {
        const std::uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
        if (number >= chunks.size()) return;
        const Chunk& chunk = chunks[number];
        buffer.resize(chunk.count * chunk.source->item_bytes);
        chunk.source->fill(chunk.first, chunk.count, buffer.data());
        if (!turns.await(number)) return;
        hash.update(buffer);
        turns.pass_to(number + 1);
        file.write_at(chunk.offset, buffer);
      }
    } catch (...) {
      turns.fail();
      throw;
    }
  };
  on_all_threads(team, team != nullptr ? team->size() : 1, work);
  return hash.digest();
}

}  // namespace persia
