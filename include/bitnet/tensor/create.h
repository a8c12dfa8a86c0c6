#pragma once

#include "bitnet/tensor/tensor.h"

#include <cstring>

namespace bitnet {

/// Contents unspecified.
[[nodiscard]] Tensor empty(std::span<const int64_t> shape, DType dtype = DType::kF32,
                           Device device = kCpuDevice);
/// Of a quantized type: all codes that mean 0 (of kBinary, which has none: kUnsupported).
[[nodiscard]] Tensor zeros(std::span<const int64_t> shape, DType dtype = DType::kF32,
                           Device device = kCpuDevice);
/// Plain types only, on the host, here and below. `value` is rounded as to_dtype rounds; out of an integer
/// type's range: kOutOfRange.
[[nodiscard]] Tensor full(std::span<const int64_t> shape, double value, DType dtype = DType::kF32);
[[nodiscard]] Tensor ones(std::span<const int64_t> shape, DType dtype = DType::kF32);
/// begin, begin + step, ... before end: ceil((end - begin) / step) values, each begin + i * step in f64.
[[nodiscard]] Tensor arange(double begin, double end, double step = 1, DType dtype = DType::kF32);
/// rows x columns (0: as many as rows), 1 on the diagonal.
[[nodiscard]] Tensor eye(int64_t rows, int64_t columns = 0, DType dtype = DType::kF32);
[[nodiscard]] Tensor scalar(double value, DType dtype = DType::kF32);

inline Tensor empty(std::initializer_list<int64_t> shape, DType dtype = DType::kF32,
                    Device device = kCpuDevice) {
  return empty(std::span<const int64_t>(shape.begin(), shape.size()), dtype, device);
}
inline Tensor zeros(std::initializer_list<int64_t> shape, DType dtype = DType::kF32,
                    Device device = kCpuDevice) {
  return zeros(std::span<const int64_t>(shape.begin(), shape.size()), dtype, device);
}
inline Tensor ones(std::initializer_list<int64_t> shape, DType dtype = DType::kF32) {
  return ones(std::span<const int64_t>(shape.begin(), shape.size()), dtype);
}
inline Tensor full(std::initializer_list<int64_t> shape, double value, DType dtype = DType::kF32) {
  return full(std::span<const int64_t>(shape.begin(), shape.size()), value, dtype);
}

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): element i depends
/// on the seed, the stream and i alone, so that every device and thread count draws the same numbers.
struct RandomKey {
  uint64_t seed = 0;
  uint64_t stream = 0;  ///< e.g. the number of the tensor
};
/// Four 32-bit words for counter `block`.
[[nodiscard]] std::array<uint32_t, 4> philox(RandomKey key, uint64_t block);
/// Uniform in [0, 1): 24 random bits / 2^24 (element i is word i % 4 of block i / 4). Floating types only.
[[nodiscard]] Tensor rand(std::span<const int64_t> shape, RandomKey key, DType dtype = DType::kF32);
/// Standard normal by Box and Muller from two words per element, computed in f64.
[[nodiscard]] Tensor randn(std::span<const int64_t> shape, RandomKey key, DType dtype = DType::kF32);
/// Uniform integers in [low, high), at most 2^32 of them, within +-2^53. Integer types only.
[[nodiscard]] Tensor randint(std::span<const int64_t> shape, int64_t low, int64_t high, RandomKey key,
                             DType dtype = DType::kI64);

/// A copy of the values, row-major. Throws kShapeMismatch if there are more or fewer than the shape holds.
[[nodiscard]] Tensor from_bytes(std::span<const std::byte> bytes, std::span<const int64_t> shape,
                                DType dtype);
template <Element T>
[[nodiscard]] Tensor from_span(std::span<const T> values, std::span<const int64_t> shape) {
  return from_bytes(std::as_bytes(values), shape, dtype_of<T>);
}
template <Element T>
[[nodiscard]] Tensor from_values(std::initializer_list<T> values, std::initializer_list<int64_t> shape) {
  return from_span(std::span<const T>(values.begin(), values.size()),
                   std::span<const int64_t>(shape.begin(), shape.size()));
}

/// A tensor over somebody else's values, without a copy; see StorageRef::borrow about `owner`.
[[nodiscard]] Tensor view_bytes(std::span<std::byte> bytes, std::span<const int64_t> shape, DType dtype,
                                std::shared_ptr<const void> owner = {});
template <Element T>
[[nodiscard]] Tensor view_of(std::span<T> values, std::span<const int64_t> shape,
                             std::shared_ptr<const void> owner = {}) {
  return view_bytes(std::as_writable_bytes(values), shape, dtype_of<T>, std::move(owner));
}

/// The values in row-major order. Throws kDTypeMismatch, kDeviceMismatch.
template <Element T>
[[nodiscard]] std::vector<T> to_vector(const Tensor& tensor);

}  // namespace bitnet
