// Reductions of contiguous floats; strided runs go to the scalar kernels. Sums and variances accumulate in
// f64 lanes: within the bound of reduction.h, in another order than the scalar loop.
#include "ops/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/reduce.cpp"
#include <hwy/foreach_target.h>
//
#include "ops/scalar/find.h"
#include "ops/simd/lanes-inl.h"
#include "ops/simd/loops.h"

#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {

using Doubles = hn::ScalableTag<double>;

/// Elements as f64, as many as a vector of f64 has lanes.
template <class T>
HWY_INLINE hn::Vec<Doubles> load_double(const T* from) {
  const Doubles d;
  if constexpr (std::is_same_v<T, double>) {
    return hn::LoadU(d, from);
  } else {
    return hn::PromoteTo(d, load(hn::Rebind<float, Doubles>(), from));
  }
}

/// The sum of term(x) over n elements; term maps vectors of f64.
template <class T, class Term>
HWY_INLINE double sum_of(int64_t n, const T* x, Term&& term) {
  const Doubles d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = hn::Zero(d), s2 = hn::Zero(d), s3 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {  // four chains hide the addition's latency
    s0 = hn::Add(s0, term(load_double(x + i)));
    s1 = hn::Add(s1, term(load_double(x + i + lanes)));
    s2 = hn::Add(s2, term(load_double(x + i + 2 * lanes)));
    s3 = hn::Add(s3, term(load_double(x + i + 3 * lanes)));
  }
  for (; i + lanes <= n; i += lanes) s0 = hn::Add(s0, term(load_double(x + i)));
  if (i < n) {
    T rest[HWY_MAX_BYTES / sizeof(double)] = {};
    std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(T));
    s1 = hn::Add(s1, hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(n - i)), term(load_double(rest))));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

template <class T>
void sum(int64_t n, const T* x, Partial& partial) {
  partial.value += sum_of(n, x, [](auto v) HWY_ATTR { return v; });
}

template <class T>
void moments(int64_t n, const T* x, Partial& partial) {
  const double mean = sum_of(n, x, [](auto v) HWY_ATTR { return v; }) / static_cast<double>(n);
  const auto center = hn::Set(Doubles(), mean);
  partial.value = mean;
  partial.m2 = sum_of(n, x, [&](auto v) HWY_ATTR {
    const auto distance = hn::Sub(v, center);
    return hn::Mul(distance, distance);
  });
  partial.count = n;
}

/// The index of the first element that is `wanted`, a NaN if that is one.
template <class T>
int64_t index_of(int64_t n, const T* x, Wide<T> wanted) {
  const Tag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto target = hn::Set(d, wanted);
  const bool nan = std::isnan(wanted);
  for (int64_t i = 0; i < n; i += lanes) {
    T rest[HWY_MAX_BYTES / sizeof(Wide<T>)] = {};
    const bool whole = i + lanes <= n;
    if (!whole) std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(T));
    const auto v = load(d, whole ? x + i : rest);
    const auto found = nan ? hn::IsNaN(v) : hn::Eq(v, target);
    const auto lane = static_cast<int64_t>(hn::FindFirstTrue(d, found));
    if (lane >= 0 && i + lane < n) return i + lane;
  }
  return -1;
}

template <bool least, class T>
Wide<T> extreme_of(int64_t n, const T* x) {
  const Tag<T> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr auto kInfinity = std::numeric_limits<Wide<T>>::infinity();
  const auto worst = hn::Set(d, least ? kInfinity : -kInfinity);
  auto best = worst;
  auto not_equal_itself = hn::IsNaN(worst);  // none yet
  const auto take = [&](auto v) HWY_ATTR {
    best = least ? hn::Min(best, v) : hn::Max(best, v);
    not_equal_itself = hn::Or(not_equal_itself, hn::IsNaN(v));
  };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) take(load(d, x + i));
  if (i < n) {
    T rest[HWY_MAX_BYTES / sizeof(Wide<T>)] = {};
    std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(T));
    take(hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n - i)), load(d, rest), worst));
  }
  if (!hn::AllFalse(d, not_equal_itself)) return std::numeric_limits<Wide<T>>::quiet_NaN();
  return hn::GetLane(least ? hn::MinOfLanes(d, best) : hn::MaxOfLanes(d, best));
}

template <Op op, class T>
void extreme(int64_t n, const T* x, int64_t index, Partial& partial) {
  constexpr bool least = op == Op::kMin || op == Op::kArgmin;
  if (n == 0 || (partial.index >= 0 && std::isnan(partial.value))) return;
  const Wide<T> best = extreme_of<least>(n, x);
  const auto value = static_cast<double>(best);
  const bool better = least ? value < partial.value : value > partial.value;
  if (partial.index >= 0 && !better && !std::isnan(value)) return;
  constexpr bool wants_index = op == Op::kArgmin || op == Op::kArgmax;
  partial.value = value;
  partial.index = wants_index ? index + index_of(n, x, best) : index;
}

template <Op op, class T>
void reduce(int64_t n, const std::byte* bytes, int64_t stride, int64_t index, Partial& partial) {
  if (stride != 1) {
    static const ReduceKernel strided = scalar::reduce_kernel(op, dtype_of<T>);
    return strided(n, bytes, stride, index, partial);
  }
  const auto* x = reinterpret_cast<const T*>(bytes);
  if constexpr (op == Op::kSum || op == Op::kMean)
    sum(n, x, partial);
  else if constexpr (op == Op::kVar || op == Op::kStd)
    moments(n, x, partial);
  else
    extreme<op>(n, x, index, partial);
}

template <class T>
ReduceKernel kernel_of(Op op) {
  return find<ReduceKernel, Op::kSum, Op::kMean, Op::kVar, Op::kStd, Op::kMin, Op::kMax, Op::kArgmin,
              Op::kArgmax>(op, []<Op o>() -> ReduceKernel { return reduce<o, T>; });
}

ReduceKernel find_reduction(Op op, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kernel_of<float>(op);
    case DType::kF16:
      return kConvertsF16 ? kernel_of<F16>(op) : nullptr;
    case DType::kBF16:
      return kernel_of<BF16>(op);
    case DType::kF64:
      return kernel_of<double>(op);
    default:
      return nullptr;
  }
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitnet::ops::simd {

HWY_EXPORT(find_reduction);

ReduceKernel reduce_kernel(Op op, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(find_reduction)(op, dtype);
}

}  // namespace bitnet::ops::simd
#endif
