#pragma once

// What each operation does to one element. Integers wrap (they compute modulo 2^64 and keep the low bits);
// 16-bit floats compute in f32 and round once.

#include "bitnet/core/half.h"
#include "bitnet/ops/op_table.h"
#include "bitnet/tensor/dtype_of.h"
#include "ops/kernels.h"

#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

namespace bitnet::ops::scalar {

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, F16> || std::is_same_v<T, BF16>;
template <class T>
inline constexpr bool kIsFloat = kIsHalf<T> || std::is_floating_point_v<T>;

/// The type that T computes in.
template <class T>
using Wide = std::conditional_t<kIsHalf<T>, float, T>;

template <class T>
Wide<T> load(T value) {
  if constexpr (std::is_same_v<T, F16>) {
    return f16_to_f32(value.bits);
  } else if constexpr (std::is_same_v<T, BF16>) {
    return bf16_to_f32(value.bits);
  } else {
    return value;
  }
}
template <class T>
T round_to(Wide<T> value) {
  if constexpr (std::is_same_v<T, F16>) {
    return {f32_to_f16(value)};
  } else if constexpr (std::is_same_v<T, BF16>) {
    return {f32_to_bf16(value)};
  } else {
    return value;
  }
}

template <class T>
T wrap(uint64_t value) {
  return static_cast<T>(value);
}
template <class T>
uint64_t bits(T value) {
  return static_cast<uint64_t>(value);
}

template <class T>
T modulo(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    const T rest = std::fmod(a, b);
    if (rest == 0) return std::copysign(rest, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
  } else {
    // -1 apart: the lowest integer divided by it overflows.
    if (b == 0 || static_cast<T>(b + 1) == 0)
      return std::is_signed_v<T> || b == 0 ? T{0} : static_cast<T>(a % b);
    const auto rest = static_cast<T>(a % b);
    return std::is_signed_v<T> && rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
  }
}

template <class T>
T power(T base, T exponent) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::pow(base, exponent);
  } else {
    if constexpr (std::is_signed_v<T>) {
      if (exponent < 0) {
        if (base == 1) return 1;
        return base == T{-1} ? static_cast<T>(exponent % 2 == 0 ? 1 : -1) : T{0};
      }
    }
    uint64_t result = 1, square = bits(base);
    for (uint64_t left = bits(exponent); left != 0; left >>= 1) {
      if ((left & 1) != 0) result *= square;
      square *= square;
    }
    return wrap<T>(result);
  }
}

template <class T>
bool is_nan(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::isnan(value);
  } else {
    return false;
  }
}

template <class T>
T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}
inline double normal_cdf(double x) {
  return 0.5 * std::erfc(-x * (1 / std::numbers::sqrt2));
}
inline double normal_density(double x) {
  return std::exp(-0.5 * x * x) * (std::numbers::inv_sqrtpi / std::numbers::sqrt2);
}
/// The argument of gelu_tanh's tanh, and its slope.
inline double gelu_argument(double x) {
  return std::numbers::sqrt2 * std::numbers::inv_sqrtpi * (x + 0.044715 * x * x * x);
}
inline double gelu_argument_slope(double x) {
  return std::numbers::sqrt2 * std::numbers::inv_sqrtpi * (1 + 3 * 0.044715 * x * x);
}

/// Of one operand.
template <Op op, class T>
T apply(T a) {
  const auto x = static_cast<double>(a);
  if constexpr (op == Op::kNeg) {
    if constexpr (std::is_floating_point_v<T>) return -a;
    return wrap<T>(0 - bits(a));
  } else if constexpr (op == Op::kAbs) {
    if constexpr (std::is_floating_point_v<T>) return std::abs(a);
    return a < 0 ? wrap<T>(0 - bits(a)) : a;
  } else if constexpr (op == Op::kSign) {
    return is_nan(a) ? a : static_cast<T>((a > 0) - (a < 0));
  } else if constexpr (op == Op::kSquare) {
    if constexpr (std::is_floating_point_v<T>) return a * a;
    return wrap<T>(bits(a) * bits(a));
  } else if constexpr (op == Op::kRelu) {
    return a > 0 || is_nan(a) ? a : T{0};
  } else if constexpr (op == Op::kReluSquared) {
    return apply<Op::kSquare>(apply<Op::kRelu>(a));
  } else if constexpr (op == Op::kSqrt) {
    return std::sqrt(a);
  } else if constexpr (op == Op::kRsqrt) {
    return 1 / std::sqrt(a);
  } else if constexpr (op == Op::kReciprocal) {
    return 1 / a;
  } else if constexpr (op == Op::kExp) {
    return std::exp(a);
  } else if constexpr (op == Op::kLog) {
    return std::log(a);
  } else if constexpr (op == Op::kSin) {
    return std::sin(a);
  } else if constexpr (op == Op::kCos) {
    return std::cos(a);
  } else if constexpr (op == Op::kErf) {
    return std::erf(a);
  } else if constexpr (op == Op::kFloor) {
    return std::floor(a);
  } else if constexpr (op == Op::kCeil) {
    return std::ceil(a);
  } else if constexpr (op == Op::kRound) {
    return std::nearbyint(a);
  } else if constexpr (op == Op::kSigmoid) {
    return sigmoid(a);
  } else if constexpr (op == Op::kTanh) {
    return std::tanh(a);
  } else if constexpr (op == Op::kSilu) {
    return a * sigmoid(a);
  } else if constexpr (op == Op::kGelu) {
    return static_cast<T>(x * normal_cdf(x));
  } else {
    static_assert(op == Op::kGeluTanh);
    return static_cast<T>(x * sigmoid(2 * gelu_argument(x)));
  }
}

/// Of two operands. Integers: / never, the rows say f32.
template <Op op, class T>
T apply(T a, T b) {
  constexpr bool floating = std::is_floating_point_v<T>;
  if constexpr (op == Op::kAdd) {
    if constexpr (floating) return a + b;
    return wrap<T>(bits(a) + bits(b));
  } else if constexpr (op == Op::kSub) {
    if constexpr (floating) return a - b;
    return wrap<T>(bits(a) - bits(b));
  } else if constexpr (op == Op::kMul) {
    if constexpr (floating) return a * b;
    return wrap<T>(bits(a) * bits(b));
  } else if constexpr (op == Op::kDiv) {
    return a / b;
  } else if constexpr (op == Op::kMod) {
    return modulo(a, b);
  } else if constexpr (op == Op::kPow) {
    return power(a, b);
  } else if constexpr (op == Op::kMinimum) {
    return a < b || is_nan(a) ? a : b;
  } else if constexpr (op == Op::kMaximum) {
    return a > b || is_nan(a) ? a : b;
  } else if constexpr (op == Op::kReluBackward) {
    return b > 0 ? a : T{0};
  } else if constexpr (op == Op::kReluSquaredBackward) {
    return b > 0 ? 2 * a * b : T{0};
  } else if constexpr (op == Op::kSigmoidBackward) {
    return a * b * (1 - b);
  } else if constexpr (op == Op::kTanhBackward) {
    return a * (1 - b * b);
  } else {
    const auto g = static_cast<double>(a), x = static_cast<double>(b);
    if constexpr (op == Op::kSiluBackward) {
      return static_cast<T>(g * sigmoid(x) * (1 + x * sigmoid(-x)));
    } else if constexpr (op == Op::kGeluBackward) {
      return static_cast<T>(g * (normal_cdf(x) + x * normal_density(x)));
    } else {
      static_assert(op == Op::kGeluTanhBackward);
      const double u = 2 * gelu_argument(x), s = sigmoid(u);
      return static_cast<T>(g * (s + 2 * x * s * sigmoid(-u) * gelu_argument_slope(x)));
    }
  }
}

template <Op op, class T>
bool compare(T a, T b) {
  if constexpr (op == Op::kEqual) return a == b;
  if constexpr (op == Op::kNotEqual) return a != b;
  if constexpr (op == Op::kLess) return a < b;
  if constexpr (op == Op::kLessEqual) return a <= b;
  if constexpr (op == Op::kGreater) return a > b;
  if constexpr (op == Op::kGreaterEqual) return a >= b;
}

}  // namespace bitnet::ops::scalar
