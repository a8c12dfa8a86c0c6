#pragma once

#include "bitnet/model/config.h"
#include "inference/executor.h"
#include "inference/model_impl.h"

#include <functional>
#include <span>

namespace bitnet {

/// f32 rows, `stride` floats apart.
struct Rows {
  float* data;
  int64_t stride;
  [[nodiscard]] float* row(int64_t index) const { return data + index * stride; }
};

/// Quantized rows: x = q / scale, and the sum of each row's q.
struct Int8Rows {
  const int8_t* q;
  int64_t stride;
  const float* scale;
  const int32_t* sum;
  [[nodiscard]] const int8_t* row(int64_t index) const { return q + index * stride; }
};

/// The linear layers of a forward pass: y = W quantize(norm(x)) (docs/NUMERICS.md).
class Projector {
 public:
  Projector(const ModelConfig& config, Executor executor, int64_t batch);

  struct Job {
    const Linear* linear;
    Rows y;
    const uint8_t* blocks = nullptr;  ///< the weights as t2x16, if they lie otherwise
  };
  /// What makes a token's row of x, by the thread that then reads it.
  using RowStep = std::function<void(int64_t token)>;
  /// Several layers that read the same x [tokens, cols], after `first` and an RMSNorm with `norm_weight`
  /// [cols] and the model's rms_norm_eps, unless that is empty.
  void project(std::span<const Job> jobs, int64_t tokens, Rows x, std::span<const float> norm_weight,
               const RowStep& first = {});

  /// The two halves of project() for one layer: what it reads, valid until the next call of prepare() or
  /// project(), ...
  Int8Rows prepare(const Linear& linear, int64_t tokens, Rows x, std::span<const float> norm_weight,
                   const RowStep& first = {});
  /// ... and the products of what was prepared.
  void multiply(std::span<const Job> jobs, int64_t tokens);
  /// The same of one layer, in pieces; `then` follows on the thread that has just computed these rows.
  using RowsStep = std::function<void(int64_t first_row, int64_t last_row, int worker)>;
  void multiply(const Job& job, int64_t tokens, const RowsStep& then);

 private:
  /// The RMSNorm of x in normed_; x itself if `norm_weight` is empty.
  Rows normed(int64_t tokens, Rows x, std::span<const float> norm_weight, const RowStep& first);
  void quantize(int64_t tokens, int64_t cols, Rows x, std::span<const float> norm_weight, float eps,
                const RowStep& first = {});
  void for_rows(int64_t tokens, const RowStep& first, auto&& body) const;
  struct Range {
    int64_t first, last;
  };
  /// Units [first, last) of a job: pairs of its row groups, each in `parts` parts of the tokens.
  void multiply_units(const Job& job, int64_t tokens, int64_t parts, Range units, int worker);
  /// The products of some tokens with some groups of a job.
  void multiply_groups(const Job& job, Range tokens, Range groups, int worker);
  void to_blocks(const PackedTernary& w, int64_t first, int64_t last, uint8_t* blocks) const;

  const ModelConfig& config_;
  Executor executor_;
  int64_t normed_stride_, q8_stride_;
  int64_t blocks_stride_;
  AlignedBuffer normed_, q8_, q8_scale_, q8_sum_;
  AlignedBuffer blocks_;  ///< per worker: groups of kTight as t2x16
};

}  // namespace bitnet
