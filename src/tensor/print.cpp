#include "bitnet/core/error.h"
#include "bitnet/tensor/tensor.h"
#include "tensor/element.h"
#include "tensor/layout.h"

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int64_t kMostPrinted = 64;

double value_at(const Tensor& tensor, int64_t element) {
  const double code = load_element(tensor.dtype(), tensor.storage()->data, element);
  const auto& quantization = tensor.quantization();
  if (!quantization) return code;
  const auto group = static_cast<size_t>(
      quantization->group_size == 0 ? 0 : (element - tensor.offset()) / quantization->group_size);
  const int32_t zero = quantization->zero_point.empty() ? 0 : quantization->zero_point[group];
  return static_cast<double>(quantization->scale[group]) * (code - zero);
}

}  // namespace

double Tensor::at(std::span<const int64_t> index) const {
  if (!defined()) throw Error(ErrorCode::kInvalidTensor, "at: the tensor holds nothing");
  if (!is_host(device())) {
    throw Error(ErrorCode::kDeviceMismatch, fmt::format("at: the tensor lies on {}", to_string(device())),
                "copy it with to_device(tensor, kCpuDevice)");
  }
  bool inside = static_cast<int>(index.size()) == ndim_;
  int64_t element = offset_;
  for (size_t i = 0; inside && i < index.size(); ++i) {
    inside = index[i] >= 0 && index[i] < shape_[i];
    element += index[i] * strides_[i];
  }
  if (!inside) {
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("at: no element {} in {}", bitnet::to_string(index), bitnet::to_string(shape())));
  }
  return value_at(*this, element);
}

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined tensor";
  std::string text = fmt::format("{}{} {}", to_string(tensor.dtype()), to_string(tensor.shape()),
                                 to_string(tensor.device()));
  if (!is_host(tensor.device()) || tensor.numel() > kMostPrinted) return text;
  text += " {";
  const char* separator = "";
  for_each_offset(tensor.shape(), tensor.strides(), tensor.offset(), [&](int64_t element) {
    text += fmt::format("{}{:g}", separator, value_at(tensor, element));
    separator = ", ";
  });
  return text + "}";
}

}  // namespace bitnet
