#include "bitnet/tensor/create.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "tensor/element.h"
#include "tensor/layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// Bytes of `count` elements; packed types round up to whole bytes.
int64_t bytes_of(DType dtype, std::span<const int64_t> shape) {
  check_rank(shape);
  if (!is_plain(dtype) && !is_quantized(dtype)) {
    throw Error(ErrorCode::kDTypeMismatch,
                fmt::format("{} is a file format, not a tensor's type", to_string(dtype)),
                "use f32 or another plain type");
  }
  const DTypeInfo& info = dtype_info(dtype);
  const int64_t count = element_count(shape);
  int64_t bytes = 0;
  if (__builtin_mul_overflow((count + info.block_elements - 1) / info.block_elements, info.block_bytes,
                             &bytes)) {
    throw Error(ErrorCode::kOutOfMemory,
                fmt::format("{}{} has more bytes than 64 bits count", to_string(dtype), to_string(shape)));
  }
  return bytes;
}

Tensor make(std::span<const int64_t> shape, DType dtype, Device device, bool zeroed) {
  StorageRef storage = StorageRef::allocate(bytes_of(dtype, shape), device, zeroed);
  std::array<int64_t, kMaxDims> strides{};
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(shape[i], 1);
  }
  return {std::move(storage), dtype, shape, {strides.data(), shape.size()}};
}

}  // namespace

Tensor empty(std::span<const int64_t> shape, DType dtype, Device device) {
  return make(shape, dtype, device, false);
}

Tensor zeros(std::span<const int64_t> shape, DType dtype, Device device) {
  if (dtype == DType::kBinary) {
    throw Error(ErrorCode::kUnsupported, "zeros: a binary tensor holds -1 and +1 only", "use ternary");
  }
  Tensor tensor = make(shape, dtype, device, dtype != DType::kTernary);
  if (dtype == DType::kTernary) {
    if (!is_host(device)) throw Error(ErrorCode::kUnsupported, "zeros: ternary tensors are made on the host");
    std::memset(tensor.bytes(), 0x55, static_cast<size_t>(tensor.nbytes()));  // code 1 is the weight 0
  }
  return tensor;
}

Tensor full(std::span<const int64_t> shape, double value, DType dtype) {
  Tensor tensor = make(shape, dtype, kCpuDevice, false);
  if (tensor.numel() == 0) return tensor;
  std::byte* first = tensor.bytes();
  store_element(dtype, first, 0, value);
  const auto total = static_cast<size_t>(tensor.nbytes());
  for (auto done = static_cast<size_t>(dtype_info(dtype).block_bytes); done < total; done *= 2) {
    std::memcpy(first + done, first, std::min(done, total - done));
  }
  return tensor;
}

Tensor ones(std::span<const int64_t> shape, DType dtype) {
  return full(shape, 1, dtype);
}

Tensor scalar(double value, DType dtype) {
  return full(std::span<const int64_t>(), value, dtype);
}

Tensor arange(double begin, double end, double step, DType dtype) {
  if (step == 0 || !std::isfinite(begin) || !std::isfinite(end) || !std::isfinite(step)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("arange: needs finite bounds and a step other than 0, found {}, {}, {}", begin,
                            end, step));
  }
  const double steps = std::ceil((end - begin) / step);
  if (steps > 0x1p53) {
    throw Error(ErrorCode::kOutOfMemory, fmt::format("arange: {} values do not fit in memory", steps));
  }
  const auto count = static_cast<int64_t>(std::max(steps, 0.0));
  Tensor tensor = empty({count}, dtype);
  for (int64_t i = 0; i < count; ++i)
    store_element(dtype, tensor.bytes(), i, begin + static_cast<double>(i) * step);
  return tensor;
}

Tensor eye(int64_t rows, int64_t columns, DType dtype) {
  if (columns == 0) columns = rows;
  Tensor tensor = full({rows, columns}, 0, dtype);
  for (int64_t i = 0; i < std::min(rows, columns); ++i)
    store_element(dtype, tensor.bytes(), i * columns + i, 1);
  return tensor;
}

Tensor from_bytes(std::span<const std::byte> bytes, std::span<const int64_t> shape, DType dtype) {
  Tensor tensor = make(shape, dtype, kCpuDevice, false);
  if (static_cast<int64_t>(bytes.size()) != tensor.nbytes()) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("from_span: {}{} has {} bytes, found {}", to_string(dtype), to_string(shape),
                            tensor.nbytes(), bytes.size()));
  }
  if (!bytes.empty()) std::memcpy(tensor.bytes(), bytes.data(), bytes.size());
  return tensor;
}

Tensor view_bytes(std::span<std::byte> bytes, std::span<const int64_t> shape, DType dtype,
                  std::shared_ptr<const void> owner) {
  if (static_cast<int64_t>(bytes.size()) != bytes_of(dtype, shape)) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("view_of: {}{} has {} bytes, found {}", to_string(dtype), to_string(shape),
                            bytes_of(dtype, shape), bytes.size()));
  }
  const auto alignment = static_cast<uintptr_t>(is_plain(dtype) ? dtype_info(dtype).block_bytes : 1);
  if (reinterpret_cast<uintptr_t>(bytes.data()) % alignment != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("view_of: {} needs an address that is a multiple of {}", to_string(dtype), alignment),
        "copy the values with from_span instead");
  }
  return {StorageRef::borrow(bytes.data(), static_cast<int64_t>(bytes.size()), std::move(owner)), dtype,
          shape, contiguous_strides(shape)};
}

template <Element T>
std::vector<T> to_vector(const Tensor& tensor) {
  if (tensor.dtype() != dtype_of<T>) (void)tensor.data<T>();  // throws with the reason
  const Tensor dense = contiguous(tensor);
  const T* first = dense.data<T>();
  return std::vector<T>(first, first + dense.numel());
}

template std::vector<float> to_vector<float>(const Tensor&);
template std::vector<F16> to_vector<F16>(const Tensor&);
template std::vector<BF16> to_vector<BF16>(const Tensor&);
template std::vector<double> to_vector<double>(const Tensor&);
template std::vector<int8_t> to_vector<int8_t>(const Tensor&);
template std::vector<int16_t> to_vector<int16_t>(const Tensor&);
template std::vector<int32_t> to_vector<int32_t>(const Tensor&);
template std::vector<int64_t> to_vector<int64_t>(const Tensor&);
template std::vector<uint8_t> to_vector<uint8_t>(const Tensor&);
template std::vector<uint16_t> to_vector<uint16_t>(const Tensor&);
template std::vector<uint32_t> to_vector<uint32_t>(const Tensor&);
template std::vector<uint64_t> to_vector<uint64_t>(const Tensor&);
template std::vector<bool> to_vector<bool>(const Tensor&);

}  // namespace bitnet
