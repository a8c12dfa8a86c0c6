#include "bitnet/tensor/tensor.h"

#include "bitnet/core/error.h"
#include "tensor/layout.h"

#include <fmt/format.h>

namespace bitnet {
namespace {

[[noreturn]] void throw_undefined(std::string_view function) {
  throw Error(ErrorCode::kInvalidTensor, fmt::format("{}: the tensor holds nothing", function),
              "make it with zeros, from_span or another function of bitnet/tensor/create.h");
}

/// Lowest and highest element index that the layout reaches, relative to its offset.
struct Reach {
  int64_t lowest = 0, highest = 0;
};

Reach reach_of(std::span<const int64_t> shape, std::span<const int64_t> strides) {
  Reach reach;
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t distance = 0;
    if (__builtin_mul_overflow(shape[i] - 1, strides[i], &distance) ||
        __builtin_add_overflow(distance < 0 ? reach.lowest : reach.highest, distance,
                               distance < 0 ? &reach.lowest : &reach.highest)) {
      throw Error(ErrorCode::kInvalidTensor, "Tensor: its strides reach beyond 64-bit indices");
    }
  }
  return reach;
}

int64_t bytes_of_elements(DType dtype, int64_t elements) {
  const DTypeInfo& info = dtype_info(dtype);
  return (elements + info.block_elements - 1) / info.block_elements * info.block_bytes;
}

}  // namespace

Tensor::Tensor(StorageRef storage, DType dtype, std::span<const int64_t> shape,
               std::span<const int64_t> strides, int64_t offset)
    : storage_(std::move(storage)), dtype_(dtype), offset_(offset) {
  if (!storage_) throw_undefined("Tensor");
  if (!is_plain(dtype) && !is_quantized(dtype)) {
    throw Error(ErrorCode::kDTypeMismatch,
                fmt::format("Tensor: {} is a file format, not a tensor's type", to_string(dtype)),
                "decode it first, see bitnet/quant");
  }
  set_layout(shape, strides);
  const Reach reach = numel_ == 0 ? Reach{} : reach_of(this->shape(), this->strides());
  int64_t last = 0;  // one beyond the last element
  const bool overflow = __builtin_add_overflow(offset, reach.highest, &last) || last > 8 * storage_->bytes;
  const int64_t end = numel_ == 0 || overflow ? 0 : bytes_of_elements(dtype, last + 1);
  if (offset < 0 || overflow || reach.lowest < -offset || end > storage_->bytes) {
    throw Error(
        ErrorCode::kInvalidTensor,
        fmt::format("Tensor: {}{} with strides {} and offset {} reaches beyond its storage of {} bytes",
                    to_string(dtype), to_string(shape), to_string(strides), offset, storage_->bytes));
  }
}

void Tensor::set_layout(std::span<const int64_t> shape, std::span<const int64_t> strides) {
  check_rank(shape);
  if (shape.size() != strides.size()) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("Tensor: {} dimensions, but {} strides", shape.size(), strides.size()));
  }
  numel_ = element_count(shape);
  ndim_ = static_cast<int8_t>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    shape_[i] = shape[i];
    strides_[i] = strides[i];
  }
}

int64_t Tensor::size(int axis) const {
  return shape_[static_cast<size_t>(normalize_axis(axis, ndim_, "size"))];
}

int64_t Tensor::nbytes() const {
  return bytes_of_elements(dtype_, numel_);
}

bool Tensor::is_contiguous() const noexcept {
  int64_t expected = 1;
  for (int i = ndim_ - 1; i >= 0; --i) {
    const auto axis = static_cast<size_t>(i);
    if (shape_[axis] != 1 && strides_[axis] != expected) return numel_ == 0;
    expected *= shape_[axis];
  }
  return true;
}

std::byte* Tensor::bytes() {
  if (!storage_) throw_undefined("bytes");
  if (!storage_->writable) {
    throw Error(ErrorCode::kInvalidArgument, "bytes: the tensor's memory is read-only",
                "clone it, or read it through a const Tensor");
  }
  return const_cast<std::byte*>(std::as_const(*this).bytes());
}

const std::byte* Tensor::bytes() const {
  if (!storage_) throw_undefined("bytes");
  const DTypeInfo& info = dtype_info(dtype_);
  return storage_->data + offset_ / info.block_elements * info.block_bytes;
}

void Tensor::check_access(DType wanted, bool write) const {
  if (!storage_) throw_undefined("data");
  if (wanted != dtype_) {
    throw Error(ErrorCode::kDTypeMismatch,
                fmt::format("data: asked for {}, but the tensor is {}", to_string(wanted), to_string(dtype_)),
                "convert it with to_dtype");
  }
  if (!is_host(device())) {
    throw Error(
        ErrorCode::kDeviceMismatch,
        fmt::format("data: the tensor lies on {}, which the processor cannot read", to_string(device())),
        "copy it with to_device(tensor, kCpuDevice)");
  }
  if (write && !storage_->writable) {
    throw Error(ErrorCode::kInvalidArgument, "data: the tensor's memory is read-only",
                "clone it, or read it through a const Tensor");
  }
}

void Tensor::check_contiguous(const char* function) const {
  if (is_contiguous()) return;
  throw Error(ErrorCode::kInvalidTensor,
              fmt::format("{}: needs a contiguous tensor; this one is {} with strides {}", function,
                          to_string(shape()), to_string(strides())),
              "use contiguous(tensor), which copies");
}

double Tensor::item() const {
  if (numel_ != 1) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("item: needs one element, found {}", to_string(shape())));
  }
  return at(std::vector<int64_t>(static_cast<size_t>(ndim_), 0));
}

Tensor Tensor::with_quantization(Quantization quantization) const {
  if (!is_quantized(dtype_)) {
    throw Error(ErrorCode::kDTypeMismatch,
                fmt::format("with_quantization: {} has no scale", to_string(dtype_)), "quantize it first");
  }
  const int64_t group = quantization.group_size;
  const int64_t groups = group == 0 ? 1 : group < 0 ? -1 : (numel_ + group - 1) / group;
  const auto fits = [&](size_t count) { return static_cast<int64_t>(count) == groups; };
  if (!fits(quantization.scale.size()) ||
      (!quantization.zero_point.empty() && !fits(quantization.zero_point.size()))) {
    throw Error(
        ErrorCode::kShapeMismatch,
        fmt::format(
            "with_quantization: {} elements in groups of {} need {} scales, and as many zero points or "
            "none; found {} and {}",
            numel_, group, groups, quantization.scale.size(), quantization.zero_point.size()));
  }
  Tensor result = *this;
  result.quantization_ = std::make_shared<const Quantization>(std::move(quantization));
  return result;
}

}  // namespace bitnet
