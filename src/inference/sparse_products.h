#pragma once

#include "inference/projector.h"

namespace bitnet {

/// The products of a squared-ReLU feed-forward block that can leave out what zeros touch: rows of `up`
/// (t2row) behind a closed gate, columns of `down` (t2col) whose int8 input is zero. Bit-identical to the
/// products with the whole matrices (docs/NUMERICS.md, "Zeros that are not computed"). Where too little is
/// zero for skipping to pay, the matrix is turned into t2x16 and multiplied whole.
class SparseProducts {
 public:
  SparseProducts(const ModelConfig& config, Executor executor, Projector& projector, int64_t batch);

  /// h = max(gate, 0)^2 * (up x). Returns the number of gates that are open.
  int64_t up(const Linear& up, int64_t tokens, Int8Rows x, Rows gate, Rows h);
  /// The same of one token, whose gate = gate x is computed on the way: x is what the projector has prepared.
  /// A thread goes on to the rows of `up` behind the gates that it has just computed.
  int64_t gate_up(const Linear& gate, const Linear& up, Int8Rows x, Rows gate_out, Rows h);
  /// y = down x. Returns the number of inputs that are not zero.
  int64_t down(const Linear& down, int64_t tokens, Int8Rows x, Rows y);

 private:
  using Range = ThreadPool::Range;
  /// A token's activations in the order of a t2row row's bytes.
  [[nodiscard]] int8_t* planes(int64_t token) { return planes_.as<int8_t>() + token * 4 * plane_stride_; }
  /// Rows [first, last) of up() of one token.
  int64_t up_rows(const Linear& up, int64_t token, Range rows, Int8Rows x, Rows gate, Rows h, int worker);
  void up_each(const Linear& up, int64_t tokens, Int8Rows x, Rows gate, Rows h);
  int64_t down_one(const Linear& down, Int8Rows x, Rows y);
  void down_many(const Linear& down, int64_t first, int64_t last, Int8Rows x, Rows y);
  void whole(const Linear& linear, int64_t tokens, Rows y);
  int64_t list_inputs(int64_t first, int64_t last, Int8Rows x, int64_t cols);
  int64_t list_row(const int8_t* q, Range cols, int64_t list);
  /// Whether skipping pays when `share` of the products is left (KernelTable::batch_gain).
  [[nodiscard]] bool pays(int64_t tokens, double share) const;

  const ModelConfig& config_;
  Executor executor_;
  Projector& projector_;
  int64_t plane_stride_, list_stride_, sums_stride_;
  AlignedBuffer planes_;
  AlignedBuffer counts_;            ///< int64 a token
  AlignedBuffer rows_, products_;   ///< up: of each worker, rows listed and their products
  AlignedBuffer columns_, values_;  ///< down: lists of kListedTokens tokens, or of each worker
  AlignedBuffer sums_;              ///< down of one token: int32 [workers, rows]
  AlignedBuffer blocks_;            ///< a matrix as t2x16, made at its first use
};

}  // namespace bitnet
