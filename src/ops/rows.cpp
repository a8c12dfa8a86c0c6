#include "ops/rows.h"

#include "bitnet/tensor/copy.h"
#include "ops/parallel.h"

namespace bitnet::ops {

void run_rows(OpCall& call, RowKernel kernel) {
  if (call.output.numel() == 0) return;
  const int64_t n = call.output.shape().back(), bytes = dtype_info(call.dtype).block_bytes;
  const int64_t rows = call.output.numel() / n;
  std::array<std::byte*, 5> data{};
  std::array<int64_t, 5> strides{};
  data[0] = call.output.bytes();
  strides[0] = n;
  for (int k = 0; k < call.input_count; ++k) {
    Tensor& operand = call.inputs[k];
    if (!operand.defined()) continue;
    operand = contiguous(operand);
    data[k + 1] = const_cast<std::byte*>(std::as_const(operand).bytes());
    strides[k + 1] = operand.numel() == n && rows > 1 ? 0 : n;
  }
  const int64_t grain = std::max<int64_t>(1, 4096 / n);
  parallel_for(*call.context, rows, grain, call.output.numel(), [&](int64_t begin, int64_t end) {
    auto at = data;
    for (size_t k = 0; k < at.size(); ++k) {
      if (at[k] != nullptr) at[k] += begin * strides[k] * bytes;
    }
    kernel({begin, end - begin, n}, at.data(), strides.data(), call.params);
  });
}

}  // namespace bitnet::ops
