#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/core/memory.h"
#include "bitnet/model/config.h"
#include "kernels/kernel_table.h"

#include <cstdint>
#include <span>

namespace bitnet {

/// Keys (after RoPE) and values of one sequence, kF32 or kF16, [layer][position][kv_size]. Memory that no
/// token has reached is not resident.
class KvCache {
 public:
  /// Throws kInvalidArgument on another type.
  KvCache(const ModelConfig& config, int64_t context, DType dtype);

  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] int64_t context() const { return context_; }
  [[nodiscard]] int64_t stride() const { return kv_size_; }
  [[nodiscard]] int64_t bytes() const { return static_cast<int64_t>(keys_.size() + values_.size()); }

  [[nodiscard]] const void* keys(int64_t layer) const { return keys_.data() + offset(layer, 0); }
  [[nodiscard]] const void* values(int64_t layer) const { return values_.data() + offset(layer, 0); }

  /// Stores one token's [kv_size] keys and values.
  void store(const kernels::KernelTable& table, int64_t layer, int64_t position, const float* k,
             const float* v);

  /// Moves positions [from, end) down by `count`, rotating keys by -count positions. `inv_freq` is [head_dim
  /// / 2].
  void shift(const kernels::KernelTable& table, int64_t from, int64_t end, int64_t count,
             std::span<const float> inv_freq);

 private:
  [[nodiscard]] size_t offset(int64_t layer, int64_t position) const {
    return static_cast<size_t>((layer * context_ + position) * kv_size_ * element_bytes_);
  }
  void store_row(const kernels::KernelTable& table, std::byte* destination, const float* values);

  DType dtype_;
  int64_t layers_, context_, kv_heads_, head_dim_, kv_size_, element_bytes_;
  AlignedBuffer keys_, values_;
};

}  // namespace bitnet
