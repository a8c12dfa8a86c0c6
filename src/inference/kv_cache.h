#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/core/memory.h"
#include "bitnet/model/config.h"
#include "kernels/kernel_table.h"

#include <cstdint>
#include <span>
#include <vector>

namespace bitnet {

/// Keys (after RoPE) and values of one sequence, of type kF32, kF16 or kI8. Each layer's KV head is one
/// piece:
///   keys   [positions / 16][head_dim][16]     position 16 b + j of dimension d at [b][d][j]
///   values [positions][round16(head_dim)]     padded with zeros
/// with positions = round16(context), so that attention reads whole vectors of positions and of dimensions.
/// kI8 lies in groups of four bytes, for byte dot products:
///   keys   [positions / 16][round4(head_dim) / 4][16][4]
///   values [positions / 4][round16(head_dim)][4]
/// and has a scale per position for keys and for values: x = q * scale, scale = absmax / 127 of the head's
/// vector. Memory that no token has reached is not resident.
class KvCache {
 public:
  /// Throws kInvalidArgument on another type, kUnsupported on a head_dim too large for kI8.
  KvCache(const ModelConfig& config, int64_t context, DType dtype);

  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] int64_t context() const { return context_; }
  [[nodiscard]] int64_t bytes() const {
    return static_cast<int64_t>(keys_.size() + values_.size() + scales_.size());
  }

  /// One head from position `start` on, a multiple of 16. Scales are null unless kI8.
  struct Chunk {
    const void* keys;
    const void* values;
    const float* key_scale;
    const float* value_scale;
  };
  [[nodiscard]] Chunk chunk(int64_t layer, int64_t kv_head, int64_t start) const;

  /// Stores one token's [kv_size] keys and values. Distinct positions may be stored by several threads at
  /// once.
  void store(const kernels::KernelTable& table, int64_t layer, int64_t position, const float* k,
             const float* v);

  /// Moves positions [from, end) down by `count`, rotating keys by -count positions (kI8: from their rounded
  /// values, rounded again). `inv_freq` is [head_dim / 2].
  void shift(const kernels::KernelTable& table, int64_t from, int64_t end, int64_t count,
             std::span<const float> inv_freq);

  /// One head's key and value at a position, element by element: for copies from and to other layouts.
  class Place {
   public:
    Place(KvCache& cache, int64_t layer, int64_t kv_head, int64_t position)
        : cache_(cache), piece_(cache.piece(layer, kv_head)), position_(position) {}
    /// Of element_bytes() each.
    [[nodiscard]] std::byte* key(int64_t d) const {
      return cache_.keys_.data() + cache_.key_index(piece_, position_, d) * cache_.element_bytes_;
    }
    [[nodiscard]] std::byte* value(int64_t d) const {
      return cache_.values_.data() + cache_.value_index(piece_, position_, d) * cache_.element_bytes_;
    }
    /// kI8 alone.
    [[nodiscard]] float& key_scale() const { return cache_.key_scales(piece_)[position_]; }
    [[nodiscard]] float& value_scale() const { return cache_.value_scales(piece_)[position_]; }

   private:
    KvCache& cache_;
    int64_t piece_, position_;
  };
  [[nodiscard]] int64_t element_bytes() const { return element_bytes_; }

  /// The memory that positions [0, positions) occupy, in an order that depends on the cache's type and the
  /// model alone: for each piece keys (whole blocks of 16 positions), values (kI8: whole groups of 4) and,
  /// with kI8, their scales.
  [[nodiscard]] std::vector<std::span<const std::byte>> parts(int64_t positions) const;
  [[nodiscard]] std::vector<std::span<std::byte>> parts(int64_t positions);

 private:
  /// Index of a head's piece among all.
  [[nodiscard]] int64_t piece(int64_t layer, int64_t kv_head) const { return layer * kv_heads_ + kv_head; }
  /// Of one element: dimension d, d % group_ of a group.
  [[nodiscard]] int64_t key_index(int64_t piece, int64_t position, int64_t d) const {
    return (piece * positions_ + position / 16 * 16) * key_dim_ + d / group_ * 16 * group_ +
           position % 16 * group_ + d % group_;
  }
  [[nodiscard]] int64_t value_index(int64_t piece, int64_t position, int64_t d) const {
    return (piece * positions_ + position / group_ * group_) * value_dim_ + d * group_ + position % group_;
  }
  [[nodiscard]] float* key_scales(int64_t piece) { return scales_.as<float>() + 2 * piece * positions_; }
  [[nodiscard]] float* value_scales(int64_t piece) { return key_scales(piece) + positions_; }

  void store_key(const kernels::KernelTable& table, int64_t piece, int64_t position, const float* k);
  void store_value(const kernels::KernelTable& table, int64_t piece, int64_t position, const float* v);
  void load_key(int64_t piece, int64_t position, float* k);
  void shift_values(int64_t piece, int64_t from, int64_t end, int64_t count);

  DType dtype_;
  int64_t group_;  ///< elements side by side: 4 for kI8, else 1
  int64_t layers_, context_, kv_heads_, head_dim_, key_dim_, value_dim_, positions_, element_bytes_;
  AlignedBuffer keys_, values_;
  AlignedBuffer scales_;  ///< kI8: per piece, positions_ of keys and positions_ of values
};

}  // namespace bitnet
