#include "ops/scalar/element_math.h"
#include "ops/scalar/find.h"
#include "tensor/element.h"

namespace bitnet::ops::scalar {
namespace {

template <Op op, class T>
void binary_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  auto* y = reinterpret_cast<T*>(operands[0]);
  const auto* a = reinterpret_cast<const T*>(operands[1]);
  const auto* b = reinterpret_cast<const T*>(operands[2]);
  for (int64_t i = 0; i < n; ++i) {
    y[i * strides[0]] = round_to<T>(apply<op>(load(a[i * strides[1]]), load(b[i * strides[2]])));
  }
}

template <Op op>
LoopKernel for_number(DType dtype) {
  return with_element_type(dtype, []<class T>() -> LoopKernel {
    if constexpr (std::is_same_v<T, bool>)
      return nullptr;
    else
      return binary_loop<op, T>;
  });
}

template <Op op>
LoopKernel for_float(DType dtype) {
  return with_element_type(dtype, []<class T>() -> LoopKernel {
    if constexpr (kIsFloat<T>)
      return binary_loop<op, T>;
    else
      return nullptr;
  });
}

}  // namespace

LoopKernel binary_kernel(Op op, DType dtype) {
  const LoopKernel number =
      find<LoopKernel, Op::kAdd, Op::kSub, Op::kMul, Op::kMod, Op::kPow, Op::kMinimum, Op::kMaximum>(
          op, [&]<Op o>() { return for_number<o>(dtype); });
  if (number != nullptr) return number;
  return find<LoopKernel, Op::kDiv, Op::kReluBackward, Op::kReluSquaredBackward, Op::kSigmoidBackward,
              Op::kTanhBackward, Op::kSiluBackward, Op::kGeluBackward, Op::kGeluTanhBackward>(
      op, [&]<Op o>() { return for_float<o>(dtype); });
}

}  // namespace bitnet::ops::scalar
