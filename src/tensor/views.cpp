// Tensor's views: new shape, strides and offset over the same bytes.

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/tensor.h"
#include "tensor/layout.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {
namespace {

CopyCounter reshape_counter("reshape"), permute_counter("permute"), transpose_counter("transpose"),
    squeeze_counter("squeeze"), unsqueeze_counter("unsqueeze"), slice_counter("slice"),
    expand_counter("expand");

using Dims = std::array<int64_t, kMaxDims>;

struct Layout {
  Dims shape{}, strides{};
  int ndim = 0;

  explicit Layout(const Tensor& tensor) : ndim(tensor.ndim()) {
    std::ranges::copy(tensor.shape(), shape.begin());
    std::ranges::copy(tensor.strides(), strides.begin());
  }
  void erase(int axis) {
    for (int i = axis; i + 1 < ndim; ++i) {
      shape[static_cast<size_t>(i)] = shape[static_cast<size_t>(i) + 1];
      strides[static_cast<size_t>(i)] = strides[static_cast<size_t>(i) + 1];
    }
    --ndim;
  }
  [[nodiscard]] std::span<const int64_t> shape_span() const {
    return {shape.data(), static_cast<size_t>(ndim)};
  }
  [[nodiscard]] std::span<const int64_t> stride_span() const {
    return {strides.data(), static_cast<size_t>(ndim)};
  }
};

/// The wanted shape with its one -1 worked out.
Shape resolve_shape(std::span<const int64_t> wanted, const Tensor& tensor) {
  Shape shape(wanted.begin(), wanted.end());
  check_rank(shape);
  int64_t known = 1;
  int64_t* open = nullptr;
  for (int64_t& size : shape) {
    if (size == -1 && open == nullptr) {
      open = &size;
    } else if (size < 0) {
      throw Error(ErrorCode::kShapeMismatch,
                  fmt::format("reshape: {} has a negative size or more than one -1", to_string(wanted)));
    } else {
      if (__builtin_mul_overflow(known, size, &known)) {
        throw Error(ErrorCode::kShapeMismatch,
                    fmt::format("reshape: {} has more elements than 64 bits count", to_string(wanted)));
      }
    }
  }
  if (open != nullptr && known != 0 && tensor.numel() % known == 0) *open = tensor.numel() / known;
  if ((open != nullptr && *open == -1) || element_count(shape) != tensor.numel()) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("reshape: {} holds {} elements, which {} does not", to_string(tensor.shape()),
                            tensor.numel(), to_string(wanted)));
  }
  return shape;
}

/// Strides for `shape` over the tensor's elements in row-major order, or nothing if they would have to move.
/// Axes of the tensor are merged where they follow each other without a gap, then each merged run is split
/// anew.
std::optional<Dims> reshaped_strides(const Tensor& tensor, std::span<const int64_t> shape) {
  Dims strides{};
  const auto old_shape = tensor.shape(), old_strides = tensor.strides();
  size_t next = shape.size();  // axes [next, ...) have their strides
  size_t axis = old_shape.size();
  while (axis > 0) {
    --axis;
    int64_t run = old_shape[axis], stride = old_strides[axis];
    if (run == 1) continue;
    while (axis > 0 && (old_shape[axis - 1] == 1 || old_strides[axis - 1] == stride * run)) {
      --axis;
      run *= old_shape[axis];
    }
    while (run > 1) {
      if (next == 0) return std::nullopt;
      --next;
      if (run % shape[next] != 0) return std::nullopt;
      strides[next] = stride;
      stride *= shape[next];
      run /= shape[next];
    }
  }
  while (next > 0) strides[--next] = tensor.numel();  // sizes 1: any stride
  return strides;
}

/// Elements of packed types cannot move apart, nor those with a scale per group of the flattened tensor.
void refuse_packed(const Tensor& tensor, std::string_view function) {
  const bool grouped = tensor.quantization() && tensor.quantization()->group_size != 0;
  if (!is_packed(tensor.dtype()) && !grouped) return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: elements of {}{} share {}, so this view does not exist", function,
                          to_string(tensor.dtype()), to_string(tensor.shape()), grouped ? "scales" : "bytes"),
              "convert it with to_dtype first");
}

int64_t clamp_bound(std::optional<int64_t> bound, int64_t size, int64_t otherwise, int64_t low,
                    int64_t high) {
  if (!bound) return otherwise;
  return std::clamp(*bound < 0 ? *bound + size : *bound, low, high);
}

}  // namespace

Tensor Tensor::with_layout(CopyCounter& counter, std::span<const int64_t> shape,
                           std::span<const int64_t> strides, int64_t offset) const {
  if (!storage_)
    throw Error(ErrorCode::kInvalidTensor, fmt::format("{}: the tensor holds nothing", counter.name()));
  counter.add(0);
  Tensor view = *this;
  view.set_layout(shape, strides);
  view.offset_ = offset;
  return view;
}

Tensor Tensor::reshape(std::span<const int64_t> shape) const {
  const Shape resolved = resolve_shape(shape, *this);
  if (numel_ == 0 || is_contiguous())
    return with_layout(reshape_counter, resolved, contiguous_strides(resolved), offset_);
  const auto strides = reshaped_strides(*this, resolved);
  if (!strides) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("reshape: {} with strides {} cannot be seen as {} without a copy",
                            to_string(this->shape()), to_string(this->strides()), to_string(resolved)),
                "use contiguous(tensor).reshape(...), which copies");
  }
  return with_layout(reshape_counter, resolved, {strides->data(), resolved.size()}, offset_);
}

Tensor Tensor::permute(std::span<const int> axes) const {
  std::array<bool, kMaxDims> seen{};
  Layout layout(*this);
  if (static_cast<int>(axes.size()) != ndim_) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("permute: {} axes for a tensor with {} dimensions", axes.size(), ndim()));
  }
  refuse_packed(*this, "permute");
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(normalize_axis(axes[i], ndim_, "permute"));
    if (std::exchange(seen[axis], true)) {
      throw Error(ErrorCode::kShapeMismatch, fmt::format("permute: axis {} is named twice", axes[i]));
    }
    layout.shape[i] = shape_[axis];
    layout.strides[i] = strides_[axis];
  }
  return with_layout(permute_counter, layout.shape_span(), layout.stride_span(), offset_);
}

Tensor Tensor::transpose(int a, int b) const {
  refuse_packed(*this, "transpose");
  Layout layout(*this);
  const auto x = static_cast<size_t>(normalize_axis(a, ndim_, "transpose"));
  const auto y = static_cast<size_t>(normalize_axis(b, ndim_, "transpose"));
  std::swap(layout.shape[x], layout.shape[y]);
  std::swap(layout.strides[x], layout.strides[y]);
  return with_layout(transpose_counter, layout.shape_span(), layout.stride_span(), offset_);
}

Tensor Tensor::squeeze() const {
  Layout layout(*this);
  for (int axis = ndim_ - 1; axis >= 0; --axis) {
    if (layout.shape[static_cast<size_t>(axis)] == 1) layout.erase(axis);
  }
  return with_layout(squeeze_counter, layout.shape_span(), layout.stride_span(), offset_);
}

Tensor Tensor::squeeze(int axis) const {
  const int which = normalize_axis(axis, ndim_, "squeeze");
  Layout layout(*this);
  if (layout.shape[static_cast<size_t>(which)] != 1) {
    throw Error(ErrorCode::kShapeMismatch, fmt::format("squeeze: axis {} of {} has size {}, not 1", axis,
                                                       to_string(shape()), size(axis)));
  }
  layout.erase(which);
  return with_layout(squeeze_counter, layout.shape_span(), layout.stride_span(), offset_);
}

Tensor Tensor::unsqueeze(int axis) const {
  if (ndim_ == kMaxDims) check_rank(Shape(kMaxDims + 1, 1));
  const int which = normalize_axis(axis, ndim_ + 1, "unsqueeze");
  Layout layout(*this);
  for (int i = ndim(); i > which; --i) {
    layout.shape[static_cast<size_t>(i)] = layout.shape[static_cast<size_t>(i) - 1];
    layout.strides[static_cast<size_t>(i)] = layout.strides[static_cast<size_t>(i) - 1];
  }
  const auto at = static_cast<size_t>(which);
  layout.strides[at] = which < ndim_ ? shape_[at] * strides_[at] : 1;  // contiguous stays contiguous
  layout.shape[at] = 1;
  ++layout.ndim;
  return with_layout(unsqueeze_counter, layout.shape_span(), layout.stride_span(), offset_);
}

Tensor Tensor::slice(int axis, std::optional<int64_t> begin, std::optional<int64_t> end, int64_t step) const {
  const auto which = static_cast<size_t>(normalize_axis(axis, ndim_, "slice"));
  if (step == 0) throw Error(ErrorCode::kInvalidArgument, "slice: the step is 0", "use 1 or -1");
  const int64_t size = shape_[which];
  int64_t first = 0, length = 0;
  if (step > 0) {
    first = clamp_bound(begin, size, 0, 0, size);
    const int64_t last = clamp_bound(end, size, size, 0, size);
    length = last > first ? (last - first - 1) / step + 1 : 0;
  } else {
    first = clamp_bound(begin, size, size - 1, -1, size - 1);
    const int64_t last = clamp_bound(end, size, -1, -1, size - 1);
    length = last < first ? (last - first + 1) / step + 1 : 0;
  }
  Layout layout(*this);
  const int64_t offset = offset_ + (length == 0 ? 0 : first * strides_[which]);
  layout.shape[which] = length;
  if (length > 1) layout.strides[which] *= step;
  const bool from_byte = offset % dtype_info(dtype_).block_elements == 0;
  const bool grouped = quantization_ && quantization_->group_size != 0;
  if (which != 0 || step != 1 || !from_byte || grouped) refuse_packed(*this, "slice");
  return with_layout(slice_counter, layout.shape_span(), layout.stride_span(), offset);
}

Tensor Tensor::narrow(int axis, int64_t start, int64_t length) const {
  const int64_t size = this->size(axis);
  if (start < 0 || length < 0 || start > size || length > size - start) {
    throw Error(ErrorCode::kOutOfRange, fmt::format("narrow: {} elements from {} of axis {}, which has {}",
                                                    length, start, axis, size));
  }
  return slice(axis, start, start + length);
}

Tensor Tensor::select(int axis, int64_t index) const {
  const int which = normalize_axis(axis, ndim_, "select");
  const int64_t size = shape_[static_cast<size_t>(which)];
  if (index < -size || index >= size) {
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("select: index {} of axis {}, which has {}", index, axis, size));
  }
  return narrow(which, index < 0 ? index + size : index, 1).squeeze(which);
}

Tensor Tensor::expand(std::span<const int64_t> shape) const {
  check_rank(shape);
  const auto ndim = static_cast<int>(shape.size());
  Layout layout(*this);
  bool fits = ndim >= ndim_;
  for (int i = 0; fits && i < ndim; ++i) {
    const auto to = static_cast<size_t>(i);
    const int from = i - (ndim - ndim_);
    const int64_t old = from >= 0 ? shape_[static_cast<size_t>(from)] : 1;
    const int64_t wanted = shape[to] == -1 && from >= 0 ? old : shape[to];
    fits = wanted >= 0 && (old == wanted || old == 1);
    layout.shape[to] = wanted;
    layout.strides[to] = from >= 0 && old == wanted ? strides_[static_cast<size_t>(from)] : 0;
  }
  if (!fits) {
    throw Error(ErrorCode::kBroadcast,
                fmt::format("expand: {} does not expand to {}", to_string(this->shape()), to_string(shape)),
                "only axes of size 1, and new ones in front, can be repeated");
  }
  layout.ndim = ndim;
  if (!std::ranges::equal(layout.shape_span(), this->shape())) refuse_packed(*this, "expand");
  return with_layout(expand_counter, layout.shape_span(), layout.stride_span(), offset_);
}

}  // namespace bitnet
