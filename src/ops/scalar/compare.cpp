// Comparisons, logic and selection: loops whose operands differ in type.
#include "ops/scalar/element_math.h"
#include "ops/scalar/find.h"
#include "tensor/element.h"

namespace bitnet::ops::scalar {
namespace {

template <Op op, class T>
void compare_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  auto* y = reinterpret_cast<bool*>(operands[0]);
  const auto* a = reinterpret_cast<const T*>(operands[1]);
  const auto* b = reinterpret_cast<const T*>(operands[2]);
  for (int64_t i = 0; i < n; ++i) {
    y[i * strides[0]] = compare<op>(load(a[i * strides[1]]), load(b[i * strides[2]]));
  }
}

/// On bools.
template <Op op>
void logical_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  auto* y = reinterpret_cast<bool*>(operands[0]);
  const auto* a = reinterpret_cast<const bool*>(operands[1]);
  const auto* b = reinterpret_cast<const bool*>(operands[2]);
  for (int64_t i = 0; i < n; ++i) {
    const bool p = a[i * strides[1]], q = b[i * strides[2]];
    y[i * strides[0]] = op == Op::kLogicalAnd ? p && q : op == Op::kLogicalOr ? p || q : p != q;
  }
}

void not_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  auto* y = reinterpret_cast<bool*>(operands[0]);
  const auto* a = reinterpret_cast<const bool*>(operands[1]);
  for (int64_t i = 0; i < n; ++i) y[i * strides[0]] = !a[i * strides[1]];
}

/// Moves elements of a size, whatever their type.
template <class T>
void where_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  auto* y = reinterpret_cast<T*>(operands[0]);
  const auto* condition = reinterpret_cast<const bool*>(operands[1]);
  const auto* a = reinterpret_cast<const T*>(operands[2]);
  const auto* b = reinterpret_cast<const T*>(operands[3]);
  for (int64_t i = 0; i < n; ++i) {
    y[i * strides[0]] = condition[i * strides[1]] ? a[i * strides[2]] : b[i * strides[3]];
  }
}

}  // namespace

LoopKernel compare_kernel(Op op, DType dtype) {
  if (op == Op::kWhere)
    return with_element_type(dtype, []<class T>() -> LoopKernel { return where_loop<T>; });
  if (op == Op::kLogicalNot) return not_loop;
  const LoopKernel logical = find<LoopKernel, Op::kLogicalAnd, Op::kLogicalOr, Op::kLogicalXor>(
      op, []<Op o>() -> LoopKernel { return logical_loop<o>; });
  if (logical != nullptr) return logical;
  return find<LoopKernel, Op::kEqual, Op::kNotEqual, Op::kLess, Op::kLessEqual, Op::kGreater,
              Op::kGreaterEqual>(op, [&]<Op o>() {
    return with_element_type(dtype, []<class T>() -> LoopKernel { return compare_loop<o, T>; });
  });
}

}  // namespace bitnet::ops::scalar
