// Products and convolutions as they are defined, one sum after the other: the oracle. Sums of floats in f64,
// of integers modulo 2^64, of which the result keeps its bits.
#include "bitnet/tensor/copy.h"
#include "ops/contraction/geometry.h"
#include "ops/scalar/element_math.h"
#include "ops/scalar/find.h"
#include "tensor/element.h"

#include <type_traits>
#include <utility>

namespace bitnet::ops::scalar {
namespace {

template <class T>
using Sum = std::conditional_t<std::is_integral_v<T>, uint64_t, double>;

template <class T>
Sum<T> widened(T value) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<uint64_t>(value);
  } else {
    return static_cast<double>(load(value));
  }
}

template <class T>
T narrowed(Sum<T> sum) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(sum);
  } else if constexpr (std::is_same_v<T, double>) {
    return sum;
  } else {
    return round_to<T>(static_cast<float>(sum));
  }
}

template <class T>
void matmul(OpCall& call) {
  const MatmulBatch batch = matmul_batch(call);
  T* y = call.output.data<T>();
  for (int64_t m = 0; m < batch.count; ++m) {
    const T* a = std::as_const(call.inputs[0]).template data<T>() + batch.offset(batch.a, m);
    const T* b = std::as_const(call.inputs[1]).template data<T>() + batch.offset(batch.b, m);
    for (int64_t i = 0; i < batch.rows; ++i) {
      for (int64_t j = 0; j < batch.columns; ++j) {
        Sum<T> sum = 0;
        for (int64_t k = 0; k < batch.depth; ++k) {
          sum += widened(a[i * batch.a.row_stride + k * batch.a.column_stride]) *
                 widened(b[k * batch.b.row_stride + j * batch.b.column_stride]);
        }
        *y++ = narrowed<T>(sum);
      }
    }
  }
}

/// One output: the sum over the channels of its group and the kernel.
template <class T>
Sum<T> correlate(const Convolution& conv, const T* x, const T* w, int64_t row, int64_t column) {
  Sum<T> sum = 0;
  for (int64_t c = 0; c < conv.channels; ++c, x += conv.input_size()) {
    for (int64_t i = 0; i < conv.kernel[0]; ++i) {
      const int64_t y = row * conv.stride[0] + i * conv.dilation[0] - conv.padding[0];
      for (int64_t j = 0; j < conv.kernel[1]; ++j, ++w) {
        const int64_t z = column * conv.stride[1] + j * conv.dilation[1] - conv.padding[1];
        if (y < 0 || y >= conv.input[0] || z < 0 || z >= conv.input[1]) continue;
        sum += widened(x[y * conv.input[1] + z]) * widened(*w);
      }
    }
  }
  return sum;
}

template <class T>
void convolve(OpCall& call) {
  const Convolution conv = convolution(call);
  const Tensor x = contiguous(call.inputs[0]), w = contiguous(call.inputs[1]);
  const Tensor bias = call.inputs[2].defined() ? contiguous(call.inputs[2]) : Tensor();
  T* y = call.output.data<T>();
  for (int64_t n = 0; n < conv.batch * conv.groups; ++n) {
    const T* input = x.data<T>() + n * conv.channels * conv.input_size();
    for (int64_t o = 0; o < conv.outputs; ++o) {
      const int64_t output = n % conv.groups * conv.outputs + o;
      const T* kernel = w.data<T>() + output * conv.depth();
      const Sum<T> start = bias.defined() ? widened(bias.data<T>()[output]) : Sum<T>{0};
      for (int64_t row = 0; row < conv.output[0]; ++row) {
        for (int64_t column = 0; column < conv.output[1]; ++column) {
          *y++ = narrowed<T>(start + correlate(conv, input, kernel, row, column));
        }
      }
    }
  }
}

}  // namespace

ContractionKernel contraction_kernel(Op op, DType dtype) {
  if (!is_plain(dtype) || dtype == DType::kBool) return nullptr;
  return with_element_type(dtype, [&]<class T>() -> ContractionKernel {
    if constexpr (std::is_same_v<T, bool>) {
      return nullptr;
    } else {
      return op == Op::kMatmul ? matmul<T> : convolve<T>;
    }
  });
}

}  // namespace bitnet::ops::scalar
