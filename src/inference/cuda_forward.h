#pragma once

#include "inference/cuda_cache.h"
#include "inference/cuda_model.h"
#include "inference/exchange.h"

#include <memory>
#include <span>
#include <vector>

namespace bitnet::cuda {

/// Chunks of attention over `length` positions.
[[nodiscard]] int64_t chunks_of(int64_t length);

/// Scratch memory of a forward pass for up to `batch` tokens. Rows are padded with zeros to kPad elements,
/// which kernels read and never write. q/k/v and attention, then the gate, then, behind the last layer, the
/// head take turns in the same memory; rows with padding keep theirs, for its zeros.
struct Scratch {
  Scratch(const ModelConfig& config, int64_t tokens, int64_t context, size_t head_bytes = 0);

  [[nodiscard]] int64_t bytes() const;

  int64_t batch;
  int64_t hidden, q_size, qkv, ffn, q8;       ///< strides of the rows, in elements
  std::shared_ptr<const DeviceBuffer> turns;  ///< of which qkv_rows, attn, gate and head are parts
  DeviceBuffer x, qkv_rows, attn, gate, up;   ///< gate: also the products gate * up
  DeviceBuffer head;
  DeviceBuffer q8_rows, q8_scale, q8_sum;
  DeviceBuffer cos, sin;  ///< [context, head_dim / 2]
  DeviceBuffer ids, decode_rows;
  int64_t chunks = 0;             ///< of the context
  int64_t decode_row_count = 0;   ///< rows that `partial` has room for
  DeviceBuffer partial, arrived;  ///< of decode attention
};

/// A run of rows of one sequence within a batch.
struct Segment {
  int64_t row, count, position;
  const CudaCache* cache;
};

/// Queues the kernels of a forward pass on a stream. `config` is the whole model's. A share of it computes
/// its rows of every matrix, and has an exchange.
class CudaForward {
 public:
  CudaForward(const ModelConfig& config, const CudaModel& model, Scratch& scratch, DType kv_type,
              int64_t context)
      : config_(config),
        model_(model),
        scratch_(scratch),
        embedding_(model.embedding),
        kv_type_(kv_type),
        context_(context) {}

  /// What a share needs: the other GPUs, and where the tokens' embeddings are, which ids then name.
  void join(Exchange& exchange, const DenseRows& embeddings) {
    exchange_ = &exchange;
    embedding_ = embeddings;
  }

  /// One token, whose id and DecodeRow lie in scratch, at a position within `chunks` chunks: every layer in
  /// five kernels.
  void decode_one(int64_t chunks, Stream stream);
  /// `tokens` rows whose ids lie in scratch. Of its segments, those of one token have their DecodeRows in
  /// scratch, `singles` of them at positions within `chunks` chunks; the others are given.
  void run_batch(int64_t tokens, int64_t singles, int64_t chunks, std::span<const Segment> segments,
                 Stream stream);

 private:
  void embed(int64_t tokens, Stream stream);
  void gather(Shared which, int64_t tokens, Stream stream) const;
  void gemv(const DeviceLinear& linear, const float* x, int64_t cols, Norms norms, Epilogue epilogue,
            float* y, Stream stream);
  /// What a product of several tokens reads: x, or with an addend x += addend.
  struct Input {
    float* x;
    int64_t stride, cols;
    const float* addend = nullptr;
    int64_t addend_stride = 0;
  };
  void gemm(const DeviceLinear& linear, const Input& input, int64_t tokens, Norms norms, Epilogue epilogue,
            float* y, int64_t y_stride, Stream stream) const;
  void attend_singles(int64_t layer, int64_t singles, int64_t chunks, Stream stream);
  void attend_segments(int64_t layer, std::span<const Segment> segments, Stream stream);
  // cuda_i8.cpp
  void attend_i8_singles(int64_t layer, int64_t singles, int64_t chunks, Stream stream);
  void attend_i8_segment(int64_t layer, const Segment& segment, Stream stream);
  [[nodiscard]] I8AttentionArgs i8_args(int64_t layer) const;
  /// Tokens that scratch has room for.
  [[nodiscard]] int64_t i8_rows_at_once(int64_t chunks) const;
  [[nodiscard]] Norms norms(const DeviceBuffer& weight, const DeviceLinear& linear) const;
  [[nodiscard]] Epilogue glu_epilogue() const;
  void glu(int64_t count, Stream stream) const;

  const ModelConfig& config_;
  const CudaModel& model_;
  Scratch& scratch_;
  DenseRows embedding_;
  Exchange* exchange_ = nullptr;
  DType kv_type_;
  int64_t context_;
};

}  // namespace bitnet::cuda
