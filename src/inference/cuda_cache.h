#pragma once

#include "inference/cuda_memory.h"
#include "inference/model_impl.h"
#include "inference/runner.h"

namespace bitnet::cuda {

[[nodiscard]] Heads heads_of(const ModelConfig& config);

/// Elements of one position's keys, or values, on the GPU.
[[nodiscard]] int64_t kv_row(const ModelConfig& config);

/// Keys and values of one sequence on the GPU, [layer][position][kv_row] each.
class CudaCache final : public SequenceCache {
 public:
  CudaCache(const Model::Impl& model, int device, int64_t context, DType kv_type);

  [[nodiscard]] int64_t bytes() const override { return 2 * static_cast<int64_t>(keys_.bytes()); }
  void shift(int64_t from, int64_t end, int64_t count) override;
  /// Both throw kUnsupported.
  void save(const std::filesystem::path& path, std::span<const int32_t> tokens) const override;
  [[nodiscard]] std::vector<int32_t> load(const std::filesystem::path& path) override;

  [[nodiscard]] void* keys() const { return keys_.data(); }
  [[nodiscard]] void* values() const { return values_.data(); }
  [[nodiscard]] KvLayer layer(int64_t index) const;

 private:
  const Model::Impl& model_;
  int device_;
  int64_t context_;
  DType kv_type_;
  DeviceBuffer keys_, values_;
};

}  // namespace bitnet::cuda
