#pragma once

#include "bitnet/tensor/tensor.h"

#include <algorithm>
#include <array>

namespace bitnet::ops {

/// Some axes of a tensor as one row-major sequence of elements; neighbours are merged where strides allow.
struct Axes {
  int count = 0;
  int64_t numel = 1;
  std::array<int64_t, kMaxDims> shape{}, strides{};

  void add(int64_t size, int64_t stride) {
    numel *= size;
    if (size == 1) return;
    if (count > 0 && strides[count - 1] == stride * size) {
      shape[count - 1] *= size;
      strides[count - 1] = stride;
    } else {
      shape[count] = size;
      strides[count++] = stride;
    }
  }
  /// In elements, of element `flat`.
  [[nodiscard]] int64_t offset(int64_t flat) const {
    int64_t sum = 0;
    for (int axis = count - 1; axis >= 0; --axis) {
      sum += flat % shape[axis] * strides[axis];
      flat /= shape[axis];
    }
    return sum;
  }
  [[nodiscard]] int64_t inner_stride() const { return count == 0 ? 1 : strides[count - 1]; }
  /// body(n, offset, first) for the runs of elements [begin, end) along the last axis.
  template <class Body>
  void for_each_run(int64_t begin, int64_t end, Body&& body) const {
    const int64_t inner = count == 0 ? 1 : shape[count - 1];
    while (begin < end) {
      const int64_t n = std::min(inner - begin % inner, end - begin);
      body(n, offset(begin), begin);
      begin += n;
    }
  }
};

[[nodiscard]] inline Axes all_axes(const Tensor& tensor) {
  Axes axes;
  for (int i = 0; i < tensor.ndim(); ++i) axes.add(tensor.shape()[i], tensor.strides()[i]);
  return axes;
}

}  // namespace bitnet::ops
