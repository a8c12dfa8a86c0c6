#pragma once

// Tensor operations on NVIDIA GPUs as plain functions, for the `cuda` back end of the room ops: a first
// version that covers f32, f16 and bf16 (computed in f32, rounded once) with any strides. Runtime functions
// are those of cuda_table.h; the rules there on pointers, streams and errors hold here too.

#include "kernels/cuda_table.h"

#include <array>

namespace bitnet::cuda {

inline constexpr int kMostAxes = 8;
using Axes = std::array<int64_t, kMostAxes>;

/// y = f(a) or f(a, b), in f32. Comparisons give 1 or 0; gelu is the one with erf.
enum class ElementFunction : uint8_t {
  kCopy,
  kNegative,
  kAbsolute,
  kSquare,
  kSqrt,
  kExp,
  kLog,
  kRelu,
  kReluSquared,
  kSigmoid,
  kTanh,
  kSilu,
  kGelu,
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kPower,
  kMinimum,
  kMaximum,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
};
[[nodiscard]] constexpr bool is_binary(ElementFunction function) {
  return function >= ElementFunction::kAdd;
}

/// An operand over the result's shape: strides in elements, 0 where it is broadcast. kF32, kF16 or kBF16, and
/// kBool as the result of a comparison.
struct ElementOperand {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Axes strides{};
};
struct ElementArgs {
  ElementFunction function;
  int32_t ndim;
  Axes shape;
  int64_t count;
  ElementOperand out, in[2];
};

/// Of no elements: 0 (sum), NaN (mean), -inf (maximum), inf (minimum). NaN wins over all.
enum class ReduceFunction : uint8_t { kSum, kMean, kMaximum, kMinimum };

/// out[o] = f over r of in[kept offset of o + reduced offset of r], accumulated in f64, always in the same
/// order.
struct ReduceArgs {
  ReduceFunction function;
  const void* in;
  void* out;  ///< contiguous, of the same dtype
  DType dtype;
  int32_t kept_axes, reduced_axes;
  Axes kept_shape, kept_strides, reduced_shape, reduced_strides;
  int64_t outputs, reduced;
};

/// c[b] = a[b] x b[b], row-major, products and sums in f32 (of f32 operands without TF32). A transposed
/// operand is stored the other way around; `*_row` elements lie between its stored rows, `*_batch` between
/// matrices.
struct MatmulArgs {
  DType dtype;
  int64_t m, n, k, batch;
  const void* a;
  const void* b;
  void* c;
  bool a_transposed, b_transposed;
  int64_t a_row, b_row, c_row;
  int64_t a_batch, b_batch, c_batch;
};

struct TensorTable {
  /// From the driver's pool (cudaMallocAsync): ordered with the stream's work. Throws kOutOfMemory.
  void* (*allocate_ordered)(size_t bytes, Stream stream);
  void (*release_ordered)(void* pointer, Stream stream) noexcept;
  /// Gives the driver's pool back but for `keep_bytes`; returns the bytes that went.
  int64_t (*trim_pool)(int64_t keep_bytes);
  void (*device_to_device)(void* destination, const void* source, size_t bytes, Stream stream);
  /// What is queued on `second` from now on begins when what is on `first` now has ended.
  void (*order)(Stream first, Stream second);

  void (*element)(const ElementArgs& args, Stream stream);
  void (*reduce)(const ReduceArgs& args, Stream stream);
  /// By cuBLAS, which is loaded when first used. Throws kBackend if there is none, saying where it was looked
  /// for.
  void (*matmul)(const MatmulArgs& args, Stream stream);
};

/// Throws kUnsupported where this build has no CUDA.
[[nodiscard]] const TensorTable& tensor_table();

}  // namespace bitnet::cuda
