#include "bitnet/tensor/copy.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"
#include "tensor/layout.h"

#include <cstring>

#include <fmt/format.h>

namespace bitnet {
namespace {

CopyCounter clone_counter("clone"), contiguous_counter("contiguous"), copy_into_counter("copy_into");

/// Copies elements of `bytes` bytes between two layouts of one shape; contiguous innermost runs at once.
void copy_strided(const std::byte* from, std::span<const int64_t> from_strides, std::byte* to,
                  std::span<const int64_t> to_strides, std::span<const int64_t> shape, int64_t bytes) {
  if (shape.empty()) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  const int64_t count = shape[0], from_step = from_strides[0] * bytes, to_step = to_strides[0] * bytes;
  if (shape.size() > 1) {
    for (int64_t i = 0; i < count; ++i) {
      copy_strided(from + i * from_step, from_strides.subspan(1), to + i * to_step, to_strides.subspan(1),
                   shape.subspan(1), bytes);
    }
  } else if (from_step == bytes && to_step == bytes) {
    std::memcpy(to, from, static_cast<size_t>(count * bytes));
  } else {
    switch (bytes) {  // constants, so that each memcpy is one move
      case 1:
        for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * to_step, from + i * from_step, 1);
        break;
      case 2:
        for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * to_step, from + i * from_step, 2);
        break;
      case 4:
        for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * to_step, from + i * from_step, 4);
        break;
      default:
        for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * to_step, from + i * from_step, 8);
    }
  }
}

void require_host(const Tensor& tensor, std::string_view function) {
  if (!tensor.defined())
    throw Error(ErrorCode::kInvalidTensor, fmt::format("{}: the tensor holds nothing", function));
  if (is_host(tensor.device())) return;
  throw Error(ErrorCode::kDeviceMismatch,
              fmt::format("{}: the tensor lies on {}", function, to_string(tensor.device())),
              "copy it with to_device(tensor, kCpuDevice)");
}

Tensor dense_copy(const Tensor& tensor) {
  Tensor copy = empty(tensor.shape(), tensor.dtype());
  if (tensor.quantization()) copy = copy.with_quantization(*tensor.quantization());
  if (tensor.numel() == 0) return copy;
  if (tensor.is_contiguous()) {
    std::memcpy(copy.bytes(), tensor.bytes(), static_cast<size_t>(tensor.nbytes()));
  } else {
    copy_strided(tensor.bytes(), tensor.strides(), copy.bytes(), copy.strides(), tensor.shape(),
                 dtype_info(tensor.dtype()).block_bytes);
  }
  return copy;
}

}  // namespace

Tensor clone(const Tensor& tensor) {
  require_host(tensor, "clone");
  clone_counter.add(tensor.nbytes());
  return dense_copy(tensor);
}

Tensor contiguous(const Tensor& tensor) {
  if (tensor.defined() && tensor.is_contiguous()) {
    contiguous_counter.add(0);
    return tensor;
  }
  require_host(tensor, "contiguous");
  contiguous_counter.add(tensor.nbytes());
  return dense_copy(tensor);
}

void copy_into(const Tensor& from, Tensor to) {
  require_host(from, "copy_into");
  require_host(to, "copy_into");
  if (from.dtype() != to.dtype()) {
    throw Error(ErrorCode::kDTypeMismatch,
                fmt::format("copy_into: {} into {}", to_string(from.dtype()), to_string(to.dtype())),
                "convert with to_dtype first");
  }
  const Tensor source = from.expand(to.shape());
  copy_into_counter.add(to.nbytes());
  if (to.numel() == 0) return;
  if (source.is_contiguous() && to.is_contiguous()) {
    std::memmove(to.bytes(), source.bytes(), static_cast<size_t>(to.nbytes()));
    return;
  }
  copy_strided(source.bytes(), source.strides(), to.bytes(), to.strides(), to.shape(),
               dtype_info(to.dtype()).block_bytes);
}

}  // namespace bitnet
