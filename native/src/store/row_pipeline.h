// Visits the rows of a batch of ids, reading memory for some ids while others are worked on.
//
// Blocks of ids go through four stages: fetch the home bucket, find the entry in it and fetch the row, find
// what lies in a later bucket, use the row. While one block is found, the next one's buckets and the last
// one's rows are on their way. In stages a block at a time rather than an id at a time: each is a short
// loop that the processor can overlap, and no id waits for a bucket that another one needs.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "persia/row_index.h"
#include "persia/row_slabs.h"

namespace persia {

// How much of a row is fetched.
enum class Fetch { kWeights, kAll };

class RowPipeline {
 public:
  RowPipeline(const RowIndex& index, const RowSlabs& slabs) : index_(index), slabs_(slabs) {}

  // To be called when entries have moved or rows have got other ids: what was found is found anew.
  void changed() { ++changes_; }

  // Calls use(i, entry of ids[i] or nullptr, its weights) in order. `use` may change index and slabs, if it
  // calls changed().
  template <Fetch kFetch, typename Use>
  void visit(std::span<const std::uint64_t> ids, Use&& use) const {
    const std::size_t fetched =
        slabs_.weight_bytes() + (kFetch == Fetch::kAll ? slabs_.state_bytes() : std::size_t{0});
    const std::size_t size = std::clamp<std::size_t>(kBytesAhead / fetched, kLeast, kMost);
    std::array<Block, 2> blocks;
    std::size_t now = 0;
    locate(blocks[0], ids.first(std::min(size, ids.size())));
    for (std::size_t begin = 0; begin < ids.size(); begin += size, now ^= 1) {
      Block& here = blocks[now];
      Block& other = blocks[now ^ 1];
      find<kFetch>(here);
      if (begin > 0) use_block(other, begin - size, use);
      const std::size_t next = begin + size;
      if (next < ids.size()) locate(other, ids.subspan(next, std::min(size, ids.size() - next)));
      find_pending<kFetch>(here);
      if (next >= ids.size()) use_block(here, begin, use);
    }
  }

 private:
  static constexpr std::size_t kMost = 64;  // ids of a block
  static constexpr std::size_t kLeast = 8;
  static constexpr std::size_t kBytesAhead = 8192;  // of rows; more push each other out of the cache

  struct Block {
    std::span<const std::uint64_t> ids;
    std::uint64_t changes = 0;
    std::array<RowIndex::Bucket*, kMost> buckets;
    std::array<RowIndex::Entry*, kMost> entries;
    std::array<std::byte*, kMost> weights;
    std::array<std::uint32_t, kMost> pending;
    std::size_t pendings = 0;
  };

  void locate(Block& block, std::span<const std::uint64_t> ids) const {
    block.ids = ids;
    block.changes = changes_;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      block.buckets[i] = index_.home(ids[i]);
      RowIndex::prefetch(block.buckets[i]);
    }
  }

  template <Fetch kFetch>
  void find(Block& block) const {
    if (block.changes != changes_) locate(block, block.ids);
    block.pendings = 0;
    for (std::size_t i = 0; i < block.ids.size(); ++i) {
      RowIndex::Bucket* bucket = block.buckets[i];
      RowIndex::Entry* entry = bucket->find(block.ids[i]);
      block.entries[i] = entry;
      if (entry != nullptr) [[likely]] {
        fetch<kFetch>(block, i);
      } else if (bucket->is_full()) {
        block.buckets[i] = index_.next(bucket);
        RowIndex::prefetch(block.buckets[i]);
        block.pending[block.pendings++] = static_cast<std::uint32_t>(i);
      }
    }
  }

  template <Fetch kFetch>
  void find_pending(Block& block) const {
    if (block.changes != changes_) return;
    for (std::size_t p = 0; p < block.pendings; ++p) {
      const std::uint32_t i = block.pending[p];
      block.entries[i] = index_.find_from(block.buckets[i], block.ids[i]);
      if (block.entries[i] != nullptr) fetch<kFetch>(block, i);
    }
  }

  template <Fetch kFetch>
  void fetch(Block& block, std::size_t i) const {
    const std::uint32_t number = block.entries[i]->row();
    std::byte* weights = slabs_.weights(number);
    block.weights[i] = weights;
    __builtin_prefetch(weights);
    for (std::size_t at = RowSlabs::kCacheLine; at < slabs_.weight_bytes(); at += RowSlabs::kCacheLine) {
      __builtin_prefetch(weights + at);
    }
    if (kFetch == Fetch::kAll) prefetch(slabs_.state(number), slabs_.state_bytes());
  }

  static void prefetch(const void* at, std::size_t bytes) {
    const auto* byte = static_cast<const std::byte*>(at);
    for (std::size_t i = 0; i < bytes; i += RowSlabs::kCacheLine) __builtin_prefetch(byte + i);
  }

  template <typename Use>
  void use_block(const Block& block, std::size_t begin, Use& use) const {
    for (std::size_t i = 0; i < block.ids.size(); ++i) {
      RowIndex::Entry* entry = block.entries[i];
      if (block.changes == changes_) [[likely]] {
        use(begin + i, entry, block.weights[i]);
      } else {
        entry = index_.find(block.ids[i]);
        use(begin + i, entry, entry != nullptr ? slabs_.weights(entry->row()) : nullptr);
      }
    }
  }

  const RowIndex& index_;
  const RowSlabs& slabs_;
  std::uint64_t changes_ = 0;
};

}  // namespace persia
