// Softmax and norms of f32, and of 16 bits through it; and the rate of multiply-adds.
#include "ops/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/simd/rows.cpp"
#include <hwy/foreach_target.h>
//
#include "ops/simd/functions-inl.h"
#include "ops/simd/loops.h"

#include <algorithm>
#include <chrono>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace bitnet::ops::simd::HWY_NAMESPACE {

/// Vectors of f32 whose sum stays in f32: each adds at most 2^-24 of the sum. Then f64.
constexpr int kBlock = 16;

/// body(vector, lanes that count) over the n elements of a row; in the last vector the others are `filler`.
template <class T, class Body>
HWY_INLINE void for_each(int64_t n, const T* x, float filler, Body&& body) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(load(d, x + i));
  if (i >= n) return;
  T rest[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(T));
  body(hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n - i)), load(d, rest), constant(filler)));
}

/// Adds vectors up in blocks.
class BlockSum {
 public:
  HWY_INLINE BlockSum() : block_(constant(0)) {}  // an implicit one would be compiled for the baseline
  HWY_INLINE void add(Floats v) {
    block_ = hn::Add(block_, v);
    if (++count_ == kBlock) flush();
  }
  HWY_INLINE double total() {
    flush();
    return total_;
  }

 private:
  HWY_INLINE void flush() {
    total_ += static_cast<double>(hn::GetLane(hn::SumOfLanes(hn::ScalableTag<float>(), block_)));
    block_ = constant(0);
    count_ = 0;
  }
  Floats block_;
  int count_ = 0;
  double total_ = 0;
};

template <class T>
const std::byte* bytes_of(const T* x) {
  return reinterpret_cast<const std::byte*>(x);
}

/// y = e^(x - shift), and their sum.
HWY_INLINE double exponentials(int64_t n, float* y, const float* x, Floats shift) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  BlockSum sum;
  int64_t i = 0;
  for_each(n, x, -std::numeric_limits<float>::infinity(), [&](Floats v) HWY_ATTR {
    const Floats e = exp(hn::Sub(v, shift));
    sum.add(e);
    if (i + lanes <= n) {
      hn::StoreU(e, d, y + i);
    } else {
      float rest[HWY_MAX_BYTES / sizeof(float)];
      hn::StoreU(e, d, rest);
      std::memcpy(y + i, rest, static_cast<size_t>(n - i) * sizeof(float));
    }
    i += lanes;
  });
  return sum.total();
}

template <class T>
void softmax(int64_t n, T* y, const T* x, bool logarithm) {
  const hn::ScalableTag<float> d;
  Floats top = constant(-std::numeric_limits<float>::infinity());
  auto nan = hn::IsNaN(top);  // none yet
  for_each(n, x, -std::numeric_limits<float>::infinity(), [&](Floats v) HWY_ATTR {
    top = hn::Max(top, v);
    nan = hn::Or(nan, hn::IsNaN(v));
  });
  const float highest =
      hn::AllFalse(d, nan) ? hn::GetLane(hn::MaxOfLanes(d, top)) : std::numeric_limits<float>::quiet_NaN();
  const Floats shift = constant(highest);
  auto* out = reinterpret_cast<std::byte*>(y);
  if constexpr (std::is_same_v<T, float>) {
    if (!logarithm) {  // the result's memory keeps the exponentials, so that each is computed once
      const Floats scale = constant(static_cast<float>(1 / exponentials(n, y, x, shift)));
      Reader<T> powers(bytes_of(y), 1);
      map<T>(
          n, out, [&](Floats v) HWY_ATTR { return hn::Mul(v, scale); }, powers);
      return;
    }
  }
  BlockSum sum;
  for_each(n, x, -std::numeric_limits<float>::infinity(),
           [&](Floats v) HWY_ATTR { sum.add(exp(hn::Sub(v, shift))); });
  const double total = sum.total();
  Reader<T> in(bytes_of(x), 1);
  if (logarithm) {
    const Floats logarithm_of_total = constant(static_cast<float>(std::log(total)));
    map<T>(
        n, out, [&](Floats v) HWY_ATTR { return hn::Sub(hn::Sub(v, shift), logarithm_of_total); }, in);
  } else {
    const Floats scale = constant(static_cast<float>(1 / total));
    map<T>(
        n, out, [&](Floats v) HWY_ATTR { return hn::Mul(exp(hn::Sub(v, shift)), scale); }, in);
  }
}

/// (x - shift) scale, by weight and bias where there are any.
template <class T>
void scale_row(int64_t n, T* y, const T* x, float shift, float scale, const T* weight, const T* bias) {
  const T one = {};  // stands for an operand that is absent, and is not used
  Reader<T> in(bytes_of(x), 1), w(bytes_of(weight != nullptr ? weight : &one), weight != nullptr ? 1 : 0),
      b(bytes_of(bias != nullptr ? bias : &one), bias != nullptr ? 1 : 0);
  const Floats center = constant(shift), factor = constant(scale);
  map<T>(
      n, reinterpret_cast<std::byte*>(y),
      [&](Floats v, Floats u, Floats c) HWY_ATTR {
        Floats result = hn::Mul(hn::Sub(v, center), factor);
        if (weight != nullptr) result = hn::Mul(result, u);
        return bias != nullptr ? hn::Add(result, c) : result;
      },
      in, w, b);
}

template <class T>
void layer_norm(int64_t n, T* y, const T* x, const T* weight, const T* bias, double eps) {
  BlockSum sum, squares;
  for_each(n, x, 0, [&](Floats v) HWY_ATTR { sum.add(v); });
  const auto mean = static_cast<float>(sum.total() / static_cast<double>(n));
  const Floats center = constant(mean);
  for_each(n, x, mean, [&](Floats v) HWY_ATTR {
    const Floats distance = hn::Sub(v, center);
    squares.add(hn::Mul(distance, distance));
  });
  const double variance = squares.total() / static_cast<double>(n);
  scale_row(n, y, x, mean, static_cast<float>(1 / std::sqrt(variance + eps)), weight, bias);
}

template <class T>
void rms_norm(int64_t n, T* y, const T* x, const T* weight, double eps) {
  BlockSum squares;
  for_each(n, x, 0, [&](Floats v) HWY_ATTR { squares.add(hn::Mul(v, v)); });
  const auto scale = static_cast<float>(1 / std::sqrt(squares.total() / static_cast<double>(n) + eps));
  scale_row<T>(n, y, x, 0, scale, weight, nullptr);
}

/// Calls body(u, v) on vectors of both rows, zeros beyond the end.
template <class T, class Body>
HWY_INLINE void for_each_pair(int64_t n, const T* a, const T* b, Body&& body) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(load(d, a + i), load(d, b + i));
  if (i >= n) return;
  Reader<T> u(bytes_of(a), 1), v(bytes_of(b), 1);  // their buffers are zero at first
  body(u.rest(i, n - i), v.rest(i, n - i));
}

/// a is the gradient, b the result.
template <class T>
void softmax_backward(int64_t n, T* y, const T* a, const T* b, bool logarithm) {
  BlockSum sum;
  for_each_pair(n, a, b, [&](Floats g, Floats v) HWY_ATTR { sum.add(logarithm ? g : hn::Mul(g, v)); });
  const Floats total = constant(static_cast<float>(sum.total()));
  Reader<T> g(bytes_of(a), 1), v(bytes_of(b), 1);
  auto* out = reinterpret_cast<std::byte*>(y);
  if (logarithm) {
    map<T>(
        n, out, [&](Floats p, Floats q) HWY_ATTR { return hn::NegMulAdd(exp(q), total, p); }, g, v);
  } else {
    map<T>(
        n, out, [&](Floats p, Floats q) HWY_ATTR { return hn::Mul(q, hn::Sub(p, total)); }, g, v);
  }
}

/// a is the gradient, b the input, c the weight or null.
template <class T>
void rms_norm_backward(int64_t n, T* y, const T* a, const T* b, const T* c, double eps) {
  const T one = {};
  BlockSum squares, products;
  for_each(n, b, 0, [&](Floats v) HWY_ATTR { squares.add(hn::Mul(v, v)); });
  const double scale = 1 / std::sqrt(squares.total() / static_cast<double>(n) + eps);
  if (c == nullptr) {
    for_each_pair(n, a, b, [&](Floats g, Floats v) HWY_ATTR { products.add(hn::Mul(g, v)); });
  } else {
    const hn::ScalableTag<float> d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      products.add(hn::Mul(hn::Mul(load(d, a + i), load(d, c + i)), load(d, b + i)));
    }
    Reader<T> g(bytes_of(a), 1), v(bytes_of(b), 1), w(bytes_of(c), 1);
    if (i < n) products.add(hn::Mul(hn::Mul(g.rest(i, n - i), w.rest(i, n - i)), v.rest(i, n - i)));
  }
  const Floats factor = constant(static_cast<float>(scale));
  const Floats pull = constant(static_cast<float>(scale * scale * products.total() / static_cast<double>(n)));
  Reader<T> g(bytes_of(a), 1), v(bytes_of(b), 1), w(bytes_of(c != nullptr ? c : &one), c != nullptr ? 1 : 0);
  map<T>(
      n, reinterpret_cast<std::byte*>(y),
      [&](Floats p, Floats q, Floats u) HWY_ATTR {
        const Floats gradient = c != nullptr ? hn::Mul(p, u) : p;
        return hn::Mul(factor, hn::NegMulAdd(q, pull, gradient));
      },
      g, v, w);
}

template <Op op, class T>
void rows(const RowRange& range, std::byte* const* operands, const int64_t* strides, const OpParams& params) {
  const auto at = [&](int k, int64_t r) HWY_ATTR {
    auto* first = reinterpret_cast<T*>(operands[k]);
    return first == nullptr ? nullptr : first + r * strides[k];
  };
  for (int64_t r = 0; r < range.rows; ++r) {
    if constexpr (op == Op::kLayerNorm) {
      layer_norm(range.n, at(0, r), at(1, r), at(2, r), at(3, r), params.eps);
    } else if constexpr (op == Op::kRmsNorm) {
      rms_norm(range.n, at(0, r), at(1, r), at(2, r), params.eps);
    } else if constexpr (op == Op::kRmsNormBackward) {
      rms_norm_backward(range.n, at(0, r), at(1, r), at(2, r), at(3, r), params.eps);
    } else if constexpr (op == Op::kSoftmaxBackward || op == Op::kLogSoftmaxBackward) {
      softmax_backward(range.n, at(0, r), at(1, r), at(2, r), op == Op::kLogSoftmaxBackward);
    } else {
      softmax(range.n, at(0, r), at(1, r), op == Op::kLogSoftmax);
    }
  }
}

template <class T>
RowKernel kernel_of(Op op) {
  return find<RowKernel, Op::kSoftmax, Op::kLogSoftmax, Op::kSoftmaxBackward, Op::kLogSoftmaxBackward,
              Op::kLayerNorm, Op::kRmsNorm, Op::kRmsNormBackward>(
      op, []<Op o>() -> RowKernel { return rows<o, T>; });
}

RowKernel find_row(Op op, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kernel_of<float>(op);
    case DType::kF16:
      return kConvertsF16 ? kernel_of<F16>(op) : nullptr;
    case DType::kBF16:
      return kernel_of<BF16>(op);
    default:
      return nullptr;
  }
}

double multiply_add_rate() {
  constexpr int kChains = 8, kSteps = 4096;
  const hn::ScalableTag<float> d;
  const Floats factor = constant(0.999F), step = constant(0.001F);
  double best = 0;
  for (int run = 0; run < 10; ++run) {
    Floats a0 = step, a1 = step, a2 = step, a3 = step, a4 = step, a5 = step, a6 = step, a7 = step;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kSteps; ++i) {
      a0 = hn::MulAdd(a0, factor, step);
      a1 = hn::MulAdd(a1, factor, step);
      a2 = hn::MulAdd(a2, factor, step);
      a3 = hn::MulAdd(a3, factor, step);
      a4 = hn::MulAdd(a4, factor, step);
      a5 = hn::MulAdd(a5, factor, step);
      a6 = hn::MulAdd(a6, factor, step);
      a7 = hn::MulAdd(a7, factor, step);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const Floats all =
        hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)));
    [[maybe_unused]] volatile float used = hn::GetLane(all);
    best = std::max(best, 2.0 * kChains * kSteps * static_cast<double>(hn::Lanes(d)) / seconds);
  }
  return best;
}

}  // namespace bitnet::ops::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bitnet::ops::simd {

HWY_EXPORT(find_row);
HWY_EXPORT(multiply_add_rate);

RowKernel row_kernel(Op op, DType dtype) {
  return HWY_DYNAMIC_DISPATCH(find_row)(op, dtype);
}
double multiply_adds_per_second() {
  return HWY_DYNAMIC_DISPATCH(multiply_add_rate)();
}

}  // namespace bitnet::ops::simd
#endif
