#pragma once

#include "inference/cuda_model.h"
#include "inference/cuda_pages.h"
#include "inference/kv_cache.h"
#include "inference/model_impl.h"
#include "inference/runner.h"

namespace bitnet::cuda {

[[nodiscard]] Heads heads_of(const ModelConfig& config);

/// Elements of one position's keys, or values, on the GPU.
[[nodiscard]] int64_t kv_row(const ModelConfig& config);

/// Keys and values of one sequence on the GPU, [layer][position][kv_row] each; kI8 as in I8AttentionArgs.
class CudaCache final : public SequenceCache {
 public:
  /// With a pool, memory comes as reserve() asks for it; without, it is all there at once.
  /// The heads are those that `weights` has.
  CudaCache(const Model::Impl& model, const CudaModel& weights, int64_t context, DType kv_type,
            std::shared_ptr<PagePool> pool = nullptr);

  [[nodiscard]] int64_t bytes() const override { return 2 * static_cast<int64_t>(keys_.bytes()); }
  void shift(int64_t from, int64_t end, int64_t count) override;
  /// The processor's files: what either wrote, the other reads.
  void save(const std::filesystem::path& path, std::span<const int32_t> tokens) const override;
  [[nodiscard]] std::vector<int32_t> load(const std::filesystem::path& path) override;

  /// Has memory for the first `positions`. Throws kOutOfMemory with what is needed and what is free; the
  /// cache is then as before.
  void reserve(int64_t positions);

  [[nodiscard]] void* keys() const { return keys_.data(); }
  [[nodiscard]] void* values() const { return values_.data(); }
  /// Not of kI8.
  [[nodiscard]] KvLayer layer(int64_t index) const;
  /// Of each layer: the context, with kI8 a multiple of 4.
  [[nodiscard]] int64_t positions() const { return positions_; }
  /// Copies positions [0, count) of all layers to or from their heads in a cache of the whole model.
  void copy(KvCache& host, int64_t count, bool to_host) const;

 private:
  void copy_layer(KvCache& host, int64_t layer, int64_t count, bool to_host, Stream stream) const;
  void shift_i8(int64_t from, int64_t end, int64_t count, const float* cos, const float* sin, Stream stream);

  const Model::Impl& model_;
  ModelConfig config_;
  int64_t first_head_;  ///< of the model's key heads
  int device_;
  int64_t context_, positions_;
  DType kv_type_;
  std::shared_ptr<PagePool> pool_;
  int64_t reserved_ = 0;
  PagedMemory keys_, values_;
};

}  // namespace bitnet::cuda
