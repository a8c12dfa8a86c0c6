#include "ops/elementwise.h"

#include "ops/parallel.h"

#include <algorithm>
#include <cstring>

namespace bitnet::ops {
namespace {

constexpr int64_t kGrain = 4096;  // elements that one thread takes at least
constexpr int64_t kGather = 256;  // elements gathered at once: 2 KB at most per operand, in the first cache

int64_t magnitude(int64_t stride) {
  return stride < 0 ? -stride : stride;
}

void move_axis(LoopLayout& layout, int from, int to) {
  layout.shape[to] = layout.shape[from];
  for (int k = 0; k < layout.operands; ++k) layout.strides[k][to] = layout.strides[k][from];
}

void swap_axes(LoopLayout& layout, int a, int b) {
  std::swap(layout.shape[a], layout.shape[b]);
  for (int k = 0; k < layout.operands; ++k) std::swap(layout.strides[k][a], layout.strides[k][b]);
}

/// Large strides of the result outside, small ones inside.
void order_axes(LoopLayout& layout) {
  for (int i = 1; i < layout.axes; ++i) {
    for (int j = i; j > 0 && magnitude(layout.strides[0][j - 1]) < magnitude(layout.strides[0][j]); --j) {
      swap_axes(layout, j - 1, j);
    }
  }
}

void merge_axes(LoopLayout& layout) {
  int last = -1;  // the last axis that stays
  for (int axis = 0; axis < layout.axes; ++axis) {
    if (layout.shape[axis] == 1) continue;
    bool merges = last >= 0;
    for (int k = 0; k < layout.operands && merges; ++k) {
      merges = layout.strides[k][last] == layout.strides[k][axis] * layout.shape[axis];
    }
    if (merges) {
      layout.shape[last] *= layout.shape[axis];
      for (int k = 0; k < layout.operands; ++k) layout.strides[k][last] = layout.strides[k][axis];
    } else {
      move_axis(layout, axis, ++last);
    }
  }
  layout.axes = last + 1;
}

/// body(n, offsets) for the runs along the innermost axis of elements [begin, end); offsets in elements.
template <class Body>
void for_each_run(const LoopLayout& layout, int64_t begin, int64_t end, Body&& body) {
  std::array<int64_t, kMaxDims> index{};
  std::array<int64_t, 5> offset{};
  int64_t rest = begin;
  for (int axis = layout.axes - 1; axis >= 0; --axis) {
    index[axis] = rest % layout.shape[axis];
    rest /= layout.shape[axis];
    for (int k = 0; k < layout.operands; ++k) offset[k] += index[axis] * layout.strides[k][axis];
  }
  const int inner = layout.axes - 1;
  while (begin < end) {
    const int64_t n = inner < 0 ? 1 : std::min(layout.shape[inner] - index[inner], end - begin);
    body(n, offset);
    begin += n;
    if (begin == end) return;
    for (int k = 0; k < layout.operands; ++k) offset[k] -= index[inner] * layout.strides[k][inner];
    index[inner] = 0;
    for (int axis = inner - 1; axis >= 0; --axis) {
      for (int k = 0; k < layout.operands; ++k) offset[k] += layout.strides[k][axis];
      if (++index[axis] < layout.shape[axis]) break;
      for (int k = 0; k < layout.operands; ++k) offset[k] -= layout.shape[axis] * layout.strides[k][axis];
      index[axis] = 0;
    }
  }
}

template <size_t bytes>
void copy_elements(int64_t n, const std::byte* from, int64_t from_stride, std::byte* to, int64_t to_stride) {
  for (int64_t i = 0; i < n; ++i) {
    std::memcpy(to + i * to_stride * static_cast<int64_t>(bytes),
                from + i * from_stride * static_cast<int64_t>(bytes), bytes);
  }
}

void copy_elements(int64_t bytes, int64_t n, const std::byte* from, int64_t from_stride, std::byte* to,
                   int64_t to_stride) {
  switch (bytes) {
    case 1:
      return copy_elements<1>(n, from, from_stride, to, to_stride);
    case 2:
      return copy_elements<2>(n, from, from_stride, to, to_stride);
    case 4:
      return copy_elements<4>(n, from, from_stride, to, to_stride);
    default:
      return copy_elements<8>(n, from, from_stride, to, to_stride);
  }
}

/// For kernels that take unit strides only: other operands pass through a buffer, a block at a time.
void run_gathered(int64_t n, LoopKernel kernel, const LoopLayout& layout,
                  const std::array<std::byte*, 5>& data, const std::array<int64_t, 5>& strides) {
  alignas(64) std::array<std::array<std::byte, kGather * 8>, 5> buffer;
  for (int64_t done = 0; done < n; done += kGather) {
    const int64_t count = std::min(kGather, n - done);
    std::array<std::byte*, 5> at{};
    std::array<int64_t, 5> unit{};
    for (int k = 0; k < layout.operands; ++k) {
      at[k] = data[k] + done * strides[k] * layout.element_bytes[k];
      unit[k] = strides[k];
      if (strides[k] == 1 || (strides[k] == 0 && k > 0)) continue;
      if (k > 0) copy_elements(layout.element_bytes[k], count, at[k], strides[k], buffer[k].data(), 1);
      at[k] = buffer[k].data();
      unit[k] = 1;
    }
    kernel(count, at.data(), unit.data());
    if (strides[0] != 1) {
      copy_elements(layout.element_bytes[0], count, at[0], 1,
                    data[0] + done * strides[0] * layout.element_bytes[0], strides[0]);
    }
  }
}

}  // namespace

LoopLayout loop_layout(OpCall& call) {
  LoopLayout layout;
  const auto shape = call.output.shape();
  layout.axes = call.output.ndim();
  layout.operands = call.input_count + 1;
  layout.numel = call.output.numel();
  std::copy(shape.begin(), shape.end(), layout.shape.begin());
  for (int k = 0; k < layout.operands; ++k) {
    const Tensor& operand = k == 0 ? call.output : call.inputs[k - 1];
    layout.data[k] = k == 0 ? call.output.bytes() : const_cast<std::byte*>(operand.bytes());
    layout.element_bytes[k] = dtype_info(operand.dtype()).block_bytes;
    const int missing = layout.axes - operand.ndim();
    for (int axis = missing; axis < layout.axes; ++axis) {
      const bool repeated = operand.shape()[axis - missing] == 1;
      layout.strides[k][axis] = repeated ? 0 : operand.strides()[axis - missing];
    }
  }
  order_axes(layout);
  merge_axes(layout);
  return layout;
}

void run_elementwise(OpCall& call, LoopKernel kernel, bool unit_strides) {
  if (call.output.numel() == 0) return;
  const LoopLayout layout = loop_layout(call);
  std::array<int64_t, 5> inner{};
  bool gather = false;
  for (int k = 0; k < layout.operands; ++k) {
    inner[k] = layout.axes == 0 ? 1 : layout.strides[k][layout.axes - 1];
    gather = gather || (unit_strides && inner[k] != 1 && !(inner[k] == 0 && k > 0));
  }
  parallel_for(*call.context, layout.numel, kGrain, layout.numel, [&](int64_t begin, int64_t end) {
    for_each_run(layout, begin, end, [&](int64_t n, const std::array<int64_t, 5>& offset) {
      std::array<std::byte*, 5> data{};
      for (int k = 0; k < layout.operands; ++k)
        data[k] = layout.data[k] + offset[k] * layout.element_bytes[k];
      if (gather) {
        run_gathered(n, kernel, layout, data, inner);
      } else {
        kernel(n, data.data(), inner.data());
      }
    });
  });
}

}  // namespace bitnet::ops
