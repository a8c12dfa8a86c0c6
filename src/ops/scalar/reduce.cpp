#include "ops/scalar/element_math.h"
#include "ops/scalar/find.h"
#include "tensor/element.h"

namespace bitnet::ops::scalar {
namespace {

template <class T>
bool is_nonzero(T value) {
  return load(value) != 0;
}

template <Op op, class T>
void extreme(int64_t n, const T* x, int64_t stride, int64_t index, Partial& partial) {
  constexpr bool least = op == Op::kMin || op == Op::kArgmin;
  using W = Wide<T>;
  W best{};
  int64_t best_index = partial.index;
  if (best_index >= 0) {
    if constexpr (kIsFloat<T>)
      best = static_cast<W>(partial.value);
    else
      best = static_cast<W>(partial.integer);
  }
  for (int64_t i = 0; i < n; ++i) {
    const W value = load(x[i * stride]);
    const bool better = least ? value < best : value > best;
    if (best_index < 0 || better || (is_nan(value) && !is_nan(best))) {
      best = value;
      best_index = index + i;
    }
    if (is_nan(best)) break;
  }
  partial.index = best_index;
  if constexpr (kIsFloat<T>)
    partial.value = static_cast<double>(best);
  else
    partial.integer = static_cast<int64_t>(+best);
}

template <class T>
void moments(int64_t n, const T* x, int64_t stride, Partial& partial) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(load(x[i * stride]));
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) {
    const double distance = static_cast<double>(load(x[i * stride])) - mean;
    squares += distance * distance;
  }
  partial.value = mean;
  partial.m2 = squares;
  partial.count = n;
}

template <Op op, class T>
void fold(int64_t n, const T* x, int64_t stride, Partial& partial) {
  double value = partial.value;
  auto integer = static_cast<uint64_t>(partial.integer);
  for (int64_t i = 0; i < n; ++i) {
    const T element = x[i * stride];
    if constexpr (op == Op::kSum || op == Op::kMean) {
      if constexpr (kIsFloat<T>)
        value += static_cast<double>(load(element));
      else
        integer += bits(element);
    } else if constexpr (op == Op::kProd) {
      if constexpr (kIsFloat<T>)
        value *= static_cast<double>(load(element));
      else
        integer *= bits(element);
    } else if constexpr (op == Op::kCountNonzero) {
      integer += is_nonzero(element) ? 1 : 0;
    } else if constexpr (op == Op::kAny) {
      integer |= is_nonzero(element) ? 1 : 0;
    } else {
      static_assert(op == Op::kAll);
      integer &= is_nonzero(element) ? 1 : 0;
    }
  }
  partial.value = value;
  partial.integer = static_cast<int64_t>(integer);
}

template <Op op, class T>
void reduce(int64_t n, const std::byte* bytes, int64_t stride, int64_t index, Partial& partial) {
  const auto* x = reinterpret_cast<const T*>(bytes);
  if constexpr (op == Op::kMin || op == Op::kMax || op == Op::kArgmin || op == Op::kArgmax) {
    extreme<op>(n, x, stride, index, partial);
  } else if constexpr (op == Op::kVar || op == Op::kStd) {
    moments(n, x, stride, partial);
  } else {
    fold<op>(n, x, stride, partial);
  }
}

template <Op op>
constexpr bool kNeedsFloat = op == Op::kMean || op == Op::kVar || op == Op::kStd;

}  // namespace

ReduceKernel reduce_kernel(Op op, DType dtype) {
  return find<ReduceKernel, Op::kSum, Op::kMean, Op::kProd, Op::kMin, Op::kMax, Op::kVar, Op::kStd,
              Op::kArgmin, Op::kArgmax, Op::kCountNonzero, Op::kAny, Op::kAll>(op, [&]<Op o>() {
    return with_element_type(dtype, []<class T>() -> ReduceKernel {
      if constexpr (kNeedsFloat<o> && !kIsFloat<T>)
        return nullptr;
      else
        return reduce<o, T>;
    });
  });
}

}  // namespace bitnet::ops::scalar
