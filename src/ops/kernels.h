#pragma once

// What a host back end is made of: loops over memory, found by operation and type. Drivers (elementwise.h,
// reduction.h, rows.h) walk shapes, split work over threads and call them; both back ends share the drivers.

#include "bitnet/core/dtype.h"
#include "bitnet/ops/backend.h"
#include "bitnet/ops/op_table.h"

#include <cstddef>
#include <cstdint>

namespace bitnet::ops {

/// n elements: operand 0 is the result, the others are read; strides in elements.
using LoopKernel = void (*)(int64_t n, std::byte* const* operands, const int64_t* strides);

/// What a reduction knows after some elements. Which fields mean something depends on the operation.
struct Partial {
  double value = 0;     ///< sum, mean, or extreme of floats
  double m2 = 0;        ///< sum of squared distances from the mean
  int64_t integer = 0;  ///< sum or extreme of integers (as bits where unsigned), count, truth
  int64_t index = -1;   ///< of the extreme; -1: no element yet
  int64_t count = 0;    ///< elements seen
};

/// Takes n elements, whose index within the reduction begins at `index`, into the partial. Of kVar and kStd
/// the partial is that of these elements alone.
using ReduceKernel = void (*)(int64_t n, const std::byte* x, int64_t stride, int64_t index, Partial& partial);

/// `rows` rows of n elements each, contiguous within a row; operand 0 is the result; row strides in elements,
/// 0 for an operand that all rows share; an absent operand is null. `first_row` counts from the call's first.
struct RowRange {
  int64_t first_row, rows, n;
};
using RowKernel = void (*)(const RowRange& range, std::byte* const* operands, const int64_t* row_strides,
                           const OpParams& params);

/// A product or convolution as a whole.
using ContractionKernel = void (*)(OpCall& call);

/// Each returns null where there is no such kernel.
struct KernelSet {
  LoopKernel (*loop)(Op op, DType dtype);
  ReduceKernel (*reduce)(Op op, DType dtype);
  RowKernel (*row)(Op op, DType dtype);
  ContractionKernel (*contraction)(Op op, DType dtype);
  /// Plain types, contiguous, to nearest even; null where the general way (convert_codec.h) must do.
  LoopKernel (*convert)(DType from, DType to) = nullptr;
  bool quantiles = false;     ///< kMedian and kQuantile, which sort and have no kernel
  bool unit_strides = false;  ///< loops take strides of 0 and 1 only (the result's 1)
};

}  // namespace bitnet::ops
