#pragma once

#include "bitnet/tensor/tensor.h"

namespace bitnet::cli {

/// The forward pass of one transformer layer on general tensors, as a user would write it: 64 tokens, 4 heads
/// of 32, causal attention, squared ReLU. What `bench tensor` counts copies in.
class StandardWorkload {
 public:
  StandardWorkload();
  [[nodiscard]] Tensor forward() const;

 private:
  Tensor x_, qkv_weight_, output_weight_, gate_weight_, up_weight_, down_weight_, norm_weight_, mask_;
};

}  // namespace bitnet::cli
