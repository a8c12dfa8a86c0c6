#pragma once

#include "bitnet/core/device.h"
#include "bitnet/core/dtype.h"
#include "bitnet/tensor/dtype_of.h"
#include "bitnet/tensor/storage.h"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bitnet {

class CopyCounter;

/// More dimensions than any model has; a bound lets a tensor hold its shape without an allocation.
inline constexpr int kMaxDims = 8;

/// What makes numbers of a quantized tensor's codes: value = scale[g] * (code - zero_point[g]), where g is
/// the index of the element's group. Groups are `group_size` consecutive elements of the flattened tensor; 0
/// means one group.
struct Quantization {
  std::vector<float> scale = {1.0F};
  std::vector<int32_t> zero_point;  ///< empty: all 0
  int64_t group_size = 0;
};

/// An n-dimensional array: shared storage, a dtype, a shape, strides in elements and an offset. Copying a
/// Tensor shares its bytes. Functions named after a view never copy: they throw where a copy would be needed.
/// Copies have a name: clone, contiguous (bitnet/tensor/copy.h), to_dtype, to_device (bitnet/ops).
///
/// Packed types (is_packed) have elements smaller than a byte. They are always contiguous; reshape, and
/// slices along the first axis that begin at a byte, are views; others throw kUnsupported.
///
/// Axes may be negative, counted from the end. Errors: kOutOfRange for an axis or an index beyond the shape,
/// kShapeMismatch, kDTypeMismatch, kInvalidTensor for one that holds nothing, each naming the function.
/// Distinct Tensor objects may be used from several threads, also when they share bytes that nobody writes.
class Tensor {
 public:
  Tensor() noexcept = default;
  /// A view of `storage`. Checks that every element lies within it: kInvalidTensor otherwise.
  Tensor(StorageRef storage, DType dtype, std::span<const int64_t> shape, std::span<const int64_t> strides,
         int64_t offset = 0);

  [[nodiscard]] bool defined() const noexcept { return static_cast<bool>(storage_); }
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] Device device() const noexcept { return storage_ ? storage_->device : kCpuDevice; }
  [[nodiscard]] int ndim() const noexcept { return ndim_; }
  [[nodiscard]] std::span<const int64_t> shape() const noexcept {
    return {shape_.data(), static_cast<size_t>(ndim_)};
  }
  /// In elements; 0 where expanded, negative where reversed.
  [[nodiscard]] std::span<const int64_t> strides() const noexcept {
    return {strides_.data(), static_cast<size_t>(ndim_)};
  }
  [[nodiscard]] int64_t offset() const noexcept { return offset_; }
  [[nodiscard]] int64_t size(int axis) const;
  /// Product of the shape; 1 for a scalar.
  [[nodiscard]] int64_t numel() const noexcept { return numel_; }
  /// Bytes of the elements when packed densely, not of the storage.
  [[nodiscard]] int64_t nbytes() const;
  /// Row-major without gaps.
  [[nodiscard]] bool is_contiguous() const noexcept;
  [[nodiscard]] bool writable() const noexcept { return storage_ && storage_->writable; }
  [[nodiscard]] const StorageRef& storage() const noexcept { return storage_; }
  /// True if the two share a storage (not necessarily elements).
  [[nodiscard]] bool shares_storage(const Tensor& other) const noexcept {
    return defined() && storage_.get() == other.storage_.get();
  }

  /// The first element's address; of a device tensor a device address.
  [[nodiscard]] std::byte* bytes();
  [[nodiscard]] const std::byte* bytes() const;
  /// The same, checked: T must be the dtype's C++ type (dtype_of) and the memory the host's.
  /// The non-const form throws kInvalidArgument on read-only storage.
  template <Element T>
  [[nodiscard]] T* data() {
    check_access(dtype_of<T>, true);
    return reinterpret_cast<T*>(bytes());
  }
  template <Element T>
  [[nodiscard]] const T* data() const {
    check_access(dtype_of<T>, false);
    return reinterpret_cast<const T*>(bytes());
  }
  /// All elements of a contiguous tensor.
  template <Element T>
  [[nodiscard]] std::span<const T> values() const {
    check_contiguous("values");
    return {data<T>(), static_cast<size_t>(numel_)};
  }
  /// The element at `index` ({} for a scalar) of any plain or quantized type, as a double: slow, for tests
  /// and messages. Quantized codes are scaled.
  [[nodiscard]] double at(std::span<const int64_t> index) const;
  [[nodiscard]] double at(std::initializer_list<int64_t> index) const {
    return at(std::span<const int64_t>(index.begin(), index.size()));
  }
  /// The only element of a tensor with numel() == 1.
  [[nodiscard]] double item() const;

  /// Null unless is_quantized(dtype()) and given one; a quantized tensor without has scale 1.
  [[nodiscard]] const std::shared_ptr<const Quantization>& quantization() const noexcept {
    return quantization_;
  }
  /// This tensor with other numbers. Throws kDTypeMismatch if not quantized, kShapeMismatch if the counts do
  /// not fit.
  [[nodiscard]] Tensor with_quantization(Quantization quantization) const;

  // Views: no bytes move.
  /// One dimension may be -1. Throws kShapeMismatch if the strides do not allow it: then
  /// contiguous(x).reshape(...).
  [[nodiscard]] Tensor reshape(std::span<const int64_t> shape) const;
  [[nodiscard]] Tensor reshape(std::initializer_list<int64_t> shape) const {
    return reshape(std::span<const int64_t>(shape.begin(), shape.size()));
  }
  [[nodiscard]] Tensor flatten() const { return reshape({-1}); }
  /// Axis i of the result is axis axes[i] of this.
  [[nodiscard]] Tensor permute(std::span<const int> axes) const;
  [[nodiscard]] Tensor permute(std::initializer_list<int> axes) const {
    return permute(std::span<const int>(axes.begin(), axes.size()));
  }
  [[nodiscard]] Tensor transpose(int a, int b) const;
  /// Leaves out axes of size 1: all, or the one named, which must be 1.
  [[nodiscard]] Tensor squeeze() const;
  [[nodiscard]] Tensor squeeze(int axis) const;
  /// A new axis of size 1 before `axis`, which may be ndim().
  [[nodiscard]] Tensor unsqueeze(int axis) const;
  /// Python's x[begin:end:step] along an axis: negative begin and end count from the end, both are clamped,
  /// step may be negative but not 0; nullopt is a bound left out.
  [[nodiscard]] Tensor slice(int axis, std::optional<int64_t> begin, std::optional<int64_t> end = {},
                             int64_t step = 1) const;
  /// Elements [start, start + length) of an axis; must lie within it.
  [[nodiscard]] Tensor narrow(int axis, int64_t start, int64_t length) const;
  /// Element `index` of an axis, which goes away.
  [[nodiscard]] Tensor select(int axis, int64_t index) const;
  /// Repeats axes of size 1 (stride 0) and new leading axes; -1 keeps an axis. The result must not be
  /// written.
  [[nodiscard]] Tensor expand(std::span<const int64_t> shape) const;
  [[nodiscard]] Tensor expand(std::initializer_list<int64_t> shape) const {
    return expand(std::span<const int64_t>(shape.begin(), shape.size()));
  }

 private:
  void set_layout(std::span<const int64_t> shape, std::span<const int64_t> strides);
  void check_access(DType wanted, bool write) const;
  void check_contiguous(const char* function) const;
  [[nodiscard]] Tensor with_layout(CopyCounter& counter, std::span<const int64_t> shape,
                                   std::span<const int64_t> strides, int64_t offset) const;

  StorageRef storage_;
  DType dtype_ = DType::kF32;
  int8_t ndim_ = 0;
  int64_t numel_ = 0;
  int64_t offset_ = 0;
  std::array<int64_t, kMaxDims> shape_{};
  std::array<int64_t, kMaxDims> strides_{};
  std::shared_ptr<const Quantization> quantization_;
};

/// "f32[2, 3] cpu", and for small host tensors the values.
[[nodiscard]] std::string to_string(const Tensor& tensor);

/// Row-major strides of a shape.
[[nodiscard]] std::vector<int64_t> contiguous_strides(std::span<const int64_t> shape);

/// The shape in which a and b meet by NumPy's rules: aligned at the end, sizes equal or 1. Throws kBroadcast.
[[nodiscard]] Shape broadcast_shapes(std::span<const int64_t> a, std::span<const int64_t> b);

}  // namespace bitnet
