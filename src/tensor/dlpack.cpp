#include "bitnet/tensor/dlpack.h"

#include "bitnet/core/error.h"

#include <memory>

#include <fmt/format.h>

namespace bitnet {
namespace {

using dlpack::DLDataType;
using dlpack::DLDevice;
using dlpack::DLManagedTensor;

enum Code : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBFloat = 4, kBool = 6 };
enum DeviceCode : int32_t { kDlCpu = 1, kDlCuda = 2, kDlPinned = 3 };

Code code_of(DType dtype) {
  if (dtype == DType::kBool) return kBool;
  if (dtype == DType::kBF16) return kBFloat;
  if (is_floating(dtype)) return kFloat;
  return is_signed(dtype) ? kInt : kUInt;
}

DType dtype_of_dlpack(DLDataType type) {
  for (int i = 0; i <= static_cast<int>(DType::kBool); ++i) {
    const auto dtype = static_cast<DType>(i);
    if (type.lanes == 1 && type.code == code_of(dtype) && type.bits == 8 * dtype_info(dtype).block_bytes)
      return dtype;
  }
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("from_dlpack: no dtype for code {}, {} bits, {} lanes", type.code, type.bits, type.lanes),
      "convert it in the library that it comes from, e.g. to float32");
}

Device device_of_dlpack(DLDevice device) {
  switch (device.device_type) {
    case kDlCpu:
      return kCpuDevice;
    case kDlCuda:
      return {DeviceType::kCuda, device.device_id};
    case kDlPinned:
      return {DeviceType::kPinned, 0};
    default:
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("from_dlpack: no device of type {}", device.device_type),
                  "move it to the CPU or a CUDA device first");
  }
}

DLDevice dlpack_device(Device device) {
  switch (device.type) {
    case DeviceType::kCpu:
      return {kDlCpu, 0};
    case DeviceType::kCuda:
      return {kDlCuda, device.index};
    case DeviceType::kPinned:
      return {kDlPinned, 0};
    default:
      throw Error(ErrorCode::kUnsupported, fmt::format("to_dlpack: {} is not built", to_string(device)));
  }
}

/// What an exported structure points to.
struct Export {
  DLManagedTensor managed{};
  Tensor tensor;
  std::array<int64_t, kMaxDims> shape{}, strides{};
};

}  // namespace

dlpack::DLManagedTensor* to_dlpack(const Tensor& tensor) {
  if (!tensor.defined()) throw Error(ErrorCode::kInvalidTensor, "to_dlpack: the tensor holds nothing");
  if (!is_plain(tensor.dtype()) || !tensor.writable()) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("to_dlpack: DLPack cannot describe {}",
                            is_plain(tensor.dtype()) ? std::string("read-only memory")
                                                     : std::string(to_string(tensor.dtype()))),
                is_plain(tensor.dtype()) ? "export clone(tensor)" : "convert it with to_dtype first");
  }
  auto exported = std::make_unique<Export>();
  exported->tensor = tensor;
  std::ranges::copy(tensor.shape(), exported->shape.begin());
  std::ranges::copy(tensor.strides(), exported->strides.begin());
  const auto bits = static_cast<uint8_t>(8 * dtype_info(tensor.dtype()).block_bytes);
  exported->managed.dl_tensor = {.data = exported->tensor.bytes(),
                                 .device = dlpack_device(tensor.device()),
                                 .ndim = tensor.ndim(),
                                 .dtype = {code_of(tensor.dtype()), bits, 1},
                                 .shape = exported->shape.data(),
                                 .strides = exported->strides.data(),
                                 .byte_offset = 0};
  exported->managed.manager_ctx = exported.get();
  exported->managed.deleter = [](DLManagedTensor* self) { delete static_cast<Export*>(self->manager_ctx); };
  return &exported.release()->managed;
}

Tensor from_dlpack(dlpack::DLManagedTensor* managed) {
  if (managed == nullptr) throw Error(ErrorCode::kInvalidTensor, "from_dlpack: a null structure");
  const std::shared_ptr<DLManagedTensor> owner(managed, [](DLManagedTensor* self) {
    if (self->deleter != nullptr) self->deleter(self);
  });
  const auto& source = managed->dl_tensor;
  const DType dtype = dtype_of_dlpack(source.dtype);
  const Device device = device_of_dlpack(source.device);
  if (source.ndim < 0 || source.ndim > kMaxDims || (source.ndim > 0 && source.shape == nullptr)) {
    throw Error(
        ErrorCode::kInvalidTensor,
        fmt::format("from_dlpack: {} dimensions; 0 to {} with a shape are possible", source.ndim, kMaxDims));
  }
  const std::span<const int64_t> shape(source.shape, static_cast<size_t>(source.ndim));
  const std::vector<int64_t> strides =
      source.strides == nullptr ? contiguous_strides(shape)
                                : std::vector<int64_t>(source.strides, source.strides + source.ndim);
  // The extent is what the structure says; there is no size to check it against.
  const int64_t bytes_each = dtype_info(dtype).block_bytes;
  int64_t lowest = 0, highest = 0;
  bool sane = element_count(shape) == 0 || source.data != nullptr;
  for (size_t i = 0; sane && i < shape.size() && element_count(shape) != 0; ++i) {
    int64_t reach = 0;
    int64_t& end = strides[i] < 0 ? lowest : highest;
    sane = !__builtin_mul_overflow(shape[i] - 1, strides[i], &reach) &&
           !__builtin_add_overflow(end, reach, &end) && std::abs(end) < (int64_t{1} << 59);
  }
  auto* first = static_cast<std::byte*>(source.data) + source.byte_offset;
  if (!sane || reinterpret_cast<uintptr_t>(first) % static_cast<uintptr_t>(bytes_each) != 0) {
    throw Error(ErrorCode::kInvalidTensor,
                fmt::format("from_dlpack: {}{} with strides {} has no memory, overflows or is not aligned",
                            to_string(dtype), to_string(shape), to_string(strides)));
  }
  StorageRef storage = StorageRef::borrow(first + lowest * bytes_each, (highest - lowest + 1) * bytes_each,
                                          owner, true, device);
  return {std::move(storage), dtype, shape, strides, -lowest};
}

}  // namespace bitnet
