#include "standard_workload.h"

#include "bitnet/ops/contraction.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <cmath>
#include <limits>

namespace bitnet::cli {
namespace {

constexpr int64_t kTokens = 64, kHeads = 4, kHeadDim = 32, kHidden = kHeads * kHeadDim, kInner = 4 * kHidden;

Tensor weight(int64_t rows, int64_t columns, uint64_t stream) {
  return mul(randn(Shape{rows, columns}, {.seed = 1, .stream = stream}),
             1 / std::sqrt(static_cast<double>(columns)));
}

/// y = x W^T; W is turned by a view.
Tensor linear(const Tensor& x, const Tensor& weights) {
  return matmul(x, weights.transpose(0, 1));
}

/// [tokens, hidden] -> [heads, tokens, head_dim], a view.
Tensor split_heads(const Tensor& x) {
  return x.reshape({kTokens, kHeads, kHeadDim}).transpose(0, 1);
}

}  // namespace

StandardWorkload::StandardWorkload()
    : x_(randn(Shape{kTokens, kHidden}, {.seed = 1, .stream = 0})),
      qkv_weight_(weight(3 * kHidden, kHidden, 1)),
      output_weight_(weight(kHidden, kHidden, 2)),
      gate_weight_(weight(kInner, kHidden, 3)),
      up_weight_(weight(kInner, kHidden, 4)),
      down_weight_(weight(kHidden, kInner, 5)),
      norm_weight_(ones({kHidden})) {
  const Tensor positions = arange(0, kTokens);
  const Tensor future = greater(positions.unsqueeze(0), positions.unsqueeze(1));
  mask_ = where(future, scalar(-std::numeric_limits<double>::infinity()), scalar(0));
}

Tensor StandardWorkload::forward() const {
  const Tensor normed = rms_norm(x_, norm_weight_);
  const Tensor qkv = linear(normed, qkv_weight_);
  const Tensor q = split_heads(qkv.narrow(1, 0, kHidden));
  const Tensor k = split_heads(qkv.narrow(1, kHidden, kHidden));
  const Tensor v = split_heads(qkv.narrow(1, 2 * kHidden, kHidden));
  const Tensor scores = mul(matmul(q, k.transpose(1, 2)), 1 / std::sqrt(static_cast<double>(kHeadDim)));
  const Tensor attended = matmul(softmax(add(scores, mask_.unsqueeze(0))), v);
  const Tensor joined = contiguous(attended.transpose(0, 1)).reshape({kTokens, kHidden});
  const Tensor residual = add(x_, linear(joined, output_weight_));
  const Tensor inner = rms_norm(residual, norm_weight_);
  const Tensor gated = mul(relu_squared(linear(inner, gate_weight_)), linear(inner, up_weight_));
  return add(residual, linear(gated, down_weight_));
}

}  // namespace bitnet::cli
