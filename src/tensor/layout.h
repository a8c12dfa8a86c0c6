#pragma once

// Arithmetic on shapes, strides and axes, without bytes.

#include "bitnet/core/dtype.h"
#include "bitnet/tensor/tensor.h"

#include <span>
#include <string_view>

namespace bitnet {

/// Throws kUnsupported for more than kMaxDims dimensions.
void check_rank(std::span<const int64_t> shape);

/// axis in [0, ndim) for one in [-ndim, ndim). Throws kOutOfRange, naming the function.
int normalize_axis(int axis, int ndim, std::string_view function);

/// Calls body(offset) with the element offset of each element in row-major order. Slow: for what is not a hot
/// loop.
template <class Body>
void for_each_offset(std::span<const int64_t> shape, std::span<const int64_t> strides, int64_t offset,
                     Body&& body) {
  if (element_count(shape) == 0) return;
  std::array<int64_t, kMaxDims> index{};
  for (;;) {
    body(offset);
    size_t axis = shape.size();
    for (;;) {
      if (axis == 0) return;
      --axis;
      offset += strides[axis];
      if (++index[axis] < shape[axis]) break;
      offset -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

}  // namespace bitnet
