#pragma once

// The part of a kernel table that is written once over a vector type (float_kernels.h). A table's unit adds
// what it has of its own.

#include "kernels/cpu/attention_i8_kernels.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/dense_kernels.h"
#include "kernels/cpu/float_kernels.h"
#include "kernels/cpu/sparse_kernels.h"

namespace bitnet::kernels {

template <class V>
constexpr KernelTable float_table(std::string_view name) {
  KernelTable table = {};
  table.name = name;
  table.batch_gain = 1.6f;
  table.quantize = quantize<V>;
  table.scale_sums = scale_sums<V>;
  table.list_open = list_open<V>;
  table.list_nonzero = list_nonzero<V>;
  table.dense_matmul = dense_matmul<V>;
  table.rms_norm = rms_norm<V>;
  table.norm_quantize = norm_quantize<V>;
  table.rope = rope<V>;
  table.glu_relu2 = glu_relu2<V>;
  table.glu_silu = glu_silu<V>;
  if constexpr (requires { V::I8Dots::kQueries; }) {  // scalar has loops of its own
    table.attention_chunk = attention_chunk<V>;
    table.attention_merge = attention_merge<V>;
  }
  table.add = add<V>;
  table.store_f16 = store_f16<V>;
  return table;
}

}  // namespace bitnet::kernels
