#include "ops/scalar/element_math.h"
#include "ops/scalar/find.h"
#include "tensor/element.h"

namespace bitnet::ops::scalar {
namespace {

template <Op op, class T>
void unary_loop(int64_t n, std::byte* const* operands, const int64_t* strides) {
  auto* y = reinterpret_cast<T*>(operands[0]);
  const auto* a = reinterpret_cast<const T*>(operands[1]);
  for (int64_t i = 0; i < n; ++i) y[i * strides[0]] = round_to<T>(apply<op>(load(a[i * strides[1]])));
}

}  // namespace

LoopKernel unary_kernel(Op op, DType dtype) {
  const LoopKernel number =
      find<LoopKernel, Op::kNeg, Op::kAbs, Op::kSign, Op::kSquare, Op::kRelu, Op::kReluSquared>(
          op, [&]<Op o>() {
            return with_element_type(dtype, []<class T>() -> LoopKernel {
              if constexpr (std::is_same_v<T, bool>)
                return nullptr;
              else
                return unary_loop<o, T>;
            });
          });
  if (number != nullptr) return number;
  return find<LoopKernel, Op::kSqrt, Op::kRsqrt, Op::kReciprocal, Op::kExp, Op::kLog, Op::kSin, Op::kCos,
              Op::kErf, Op::kFloor, Op::kCeil, Op::kRound, Op::kSigmoid, Op::kTanh, Op::kSilu, Op::kGelu,
              Op::kGeluTanh>(op, [&]<Op o>() {
    return with_element_type(dtype, []<class T>() -> LoopKernel {
      if constexpr (kIsFloat<T>)
        return unary_loop<o, T>;
      else
        return nullptr;
    });
  });
}

}  // namespace bitnet::ops::scalar
