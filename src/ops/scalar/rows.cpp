// Along rows. Sums accumulate in f64; elements are computed in the type's own precision (f32 for 16 bits).
#include "ops/scalar/element_math.h"
#include "ops/scalar/find.h"
#include "tensor/element.h"

#include <algorithm>
#include <span>
#include <vector>

namespace bitnet::ops::scalar {
namespace {

/// One row of one call; absent operands are null.
template <class T>
struct Row {
  int64_t n;
  T* y;
  const T* a;
  const T* b;
  const T* c;

  /// sum over i of term(i), in f64.
  template <class Term>
  double sum(Term&& term) const {
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += static_cast<double>(term(i));
    return total;
  }
};

template <class T>
void softmax(const Row<T>& row, bool logarithm) {
  using W = Wide<T>;
  W top = load(row.a[0]);
  for (int64_t i = 1; i < row.n; ++i) top = apply<Op::kMaximum>(top, load(row.a[i]));
  const double total = row.sum([&](int64_t i) { return std::exp(load(row.a[i]) - top); });
  if (logarithm) {
    const double shift = std::log(total);
    for (int64_t i = 0; i < row.n; ++i) {
      row.y[i] = round_to<T>(static_cast<W>(static_cast<double>(load(row.a[i]) - top) - shift));
    }
    return;
  }
  const auto scale = static_cast<W>(1 / total);
  for (int64_t i = 0; i < row.n; ++i) row.y[i] = round_to<T>(std::exp(load(row.a[i]) - top) * scale);
}

template <class T>
void softmax_backward(const Row<T>& row, bool logarithm) {
  using W = Wide<T>;
  if (logarithm) {
    const auto total = static_cast<W>(row.sum([&](int64_t i) { return load(row.a[i]); }));
    for (int64_t i = 0; i < row.n; ++i) {
      row.y[i] = round_to<T>(load(row.a[i]) - std::exp(load(row.b[i])) * total);
    }
    return;
  }
  const auto total = static_cast<W>(row.sum(
      [&](int64_t i) { return static_cast<double>(load(row.a[i])) * static_cast<double>(load(row.b[i])); }));
  for (int64_t i = 0; i < row.n; ++i) row.y[i] = round_to<T>(load(row.b[i]) * (load(row.a[i]) - total));
}

template <class T>
void layer_norm(const Row<T>& row, double eps) {
  using W = Wide<T>;
  const auto n = static_cast<double>(row.n);
  const double mean = row.sum([&](int64_t i) { return load(row.a[i]); }) / n;
  const double variance = row.sum([&](int64_t i) {
    const double distance = static_cast<double>(load(row.a[i])) - mean;
    return distance * distance;
  }) / n;
  const double scale = 1 / std::sqrt(variance + eps);
  for (int64_t i = 0; i < row.n; ++i) {
    auto value = static_cast<W>((static_cast<double>(load(row.a[i])) - mean) * scale);
    if (row.b != nullptr) value *= load(row.b[i]);
    if (row.c != nullptr) value += load(row.c[i]);
    row.y[i] = round_to<T>(value);
  }
}

template <class T>
double inverse_rms(const Row<T>& row, const T* x, double eps) {
  const double squares = row.sum([&](int64_t i) {
    const auto value = static_cast<double>(load(x[i]));
    return value * value;
  });
  return 1 / std::sqrt(squares / static_cast<double>(row.n) + eps);
}

template <class T>
void rms_norm(const Row<T>& row, double eps) {
  using W = Wide<T>;
  const auto scale = static_cast<W>(inverse_rms(row, row.a, eps));
  for (int64_t i = 0; i < row.n; ++i) {
    W value = load(row.a[i]) * scale;
    if (row.b != nullptr) value *= load(row.b[i]);
    row.y[i] = round_to<T>(value);
  }
}

/// a is the gradient, b the input, c the weight.
template <class T>
void rms_norm_backward(const Row<T>& row, double eps) {
  const auto weight = [&](int64_t i) { return row.c == nullptr ? 1.0 : static_cast<double>(load(row.c[i])); };
  const auto gradient = [&](int64_t i) { return static_cast<double>(load(row.a[i])) * weight(i); };
  const double scale = inverse_rms(row, row.b, eps);
  const double mean = row.sum([&](int64_t i) { return gradient(i) * static_cast<double>(load(row.b[i])); }) /
                      static_cast<double>(row.n);
  const double pull = scale * scale * mean;
  for (int64_t i = 0; i < row.n; ++i) {
    const double value = scale * (gradient(i) - static_cast<double>(load(row.b[i])) * pull);
    row.y[i] = round_to<T>(static_cast<Wide<T>>(value));
  }
}

template <class T>
void rope(const Row<T>& row, double position, std::span<const double> frequencies, const OpParams& params) {
  const int64_t pairs = row.n / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t first = params.interleaved ? 2 * i : i, second = params.interleaved ? 2 * i + 1 : i + pairs;
    const double turn = position * frequencies[static_cast<size_t>(i)], angle = params.inverse ? -turn : turn;
    const double c = std::cos(angle), s = std::sin(angle);
    const auto u = static_cast<double>(load(row.a[first])), v = static_cast<double>(load(row.a[second]));
    row.y[first] = round_to<T>(static_cast<Wide<T>>(u * c - v * s));
    row.y[second] = round_to<T>(static_cast<Wide<T>>(u * s + v * c));
  }
}

/// theta^(-2 i / n), the same for all rows.
std::vector<double> rope_frequencies(int64_t n, double theta) {
  std::vector<double> frequencies(static_cast<size_t>(n / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(theta, -2 * static_cast<double>(i) / static_cast<double>(n));
  }
  return frequencies;
}

template <Op op, class T>
void rows(const RowRange& range, std::byte* const* operands, const int64_t* strides, const OpParams& params) {
  const auto at = [&](int k, int64_t r) {
    auto* first = reinterpret_cast<T*>(operands[k]);
    return first == nullptr ? nullptr : first + r * strides[k];
  };
  const auto frequencies = op == Op::kRope ? rope_frequencies(range.n, params.theta) : std::vector<double>();
  for (int64_t r = 0; r < range.rows; ++r) {
    const Row<T> row = {range.n, at(0, r), at(1, r), at(2, r), at(3, r)};
    if constexpr (op == Op::kSoftmax || op == Op::kLogSoftmax) softmax(row, op == Op::kLogSoftmax);
    if constexpr (op == Op::kSoftmaxBackward || op == Op::kLogSoftmaxBackward) {
      softmax_backward(row, op == Op::kLogSoftmaxBackward);
    }
    if constexpr (op == Op::kLayerNorm) layer_norm(row, params.eps);
    if constexpr (op == Op::kRmsNorm) rms_norm(row, params.eps);
    if constexpr (op == Op::kRmsNormBackward) rms_norm_backward(row, params.eps);
    if constexpr (op == Op::kRope) {
      const int64_t position = params.position + (range.first_row + r) % params.length;
      rope(row, static_cast<double>(position), frequencies, params);
    }
  }
}

}  // namespace

RowKernel row_kernel(Op op, DType dtype) {
  return find<RowKernel, Op::kSoftmax, Op::kLogSoftmax, Op::kSoftmaxBackward, Op::kLogSoftmaxBackward,
              Op::kLayerNorm, Op::kRmsNorm, Op::kRmsNormBackward, Op::kRope>(op, [&]<Op o>() {
    return with_element_type(dtype, []<class T>() -> RowKernel {
      if constexpr (kIsFloat<T>)
        return rows<o, T>;
      else
        return nullptr;
    });
  });
}

}  // namespace bitnet::ops::scalar
