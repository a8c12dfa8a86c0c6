#pragma once

// The float kernels of kernel_table.h, written once over a vector type V of 16 f32 lanes. Each instruction
// set has one translation unit that defines its V (f32x16.h of its folder, in an anonymous namespace) and
// instantiates these templates, so that every instance has internal linkage: the linker cannot hand code
// compiled for a wide instruction set to anyone else. For the same reason nothing here is inline std code.
//
// V provides: zero, broadcast, load, store, load_f16, store_f16, load_bf16, from_i8, store_i8, fma (a * b +
// c), add, sub, mul, div, max (a > b ? a : b), max_magnitude, select_less, add_exponent, reduce_add (the tree
// of kernel_table.h), and the tile sizes of dense_kernels.h and attention_kernels.h.

#include "kernels/cpu/unroll.h"
#include "kernels/kernel_table.h"

#include <cstdint>

namespace bitnet::kernels {

inline constexpr int64_t kLanes = 16;

// A number of things as a type.
template <int kCount>
struct Count {
  static constexpr int value = kCount;
};

// The first n (< 16) elements and zeros: the tail of a row, read without touching what follows it.
template <class V>
V load_part(const float* p, int64_t n) {
  alignas(64) float buffer[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return V::load(buffer);
}

template <class V>
void store_part(V v, float* p, int64_t n) {
  alignas(64) float buffer[kLanes];
  v.store(buffer);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

// Calls body(offset, load, store) for each 16 elements of [0, count), with whole or partial access as needed.
template <class V>
struct Whole {
  static V load(const float* p) { return V::load(p); }
  static void store(V v, float* p) { v.store(p); }
};
template <class V>
struct Part {
  int64_t n;
  V load(const float* p) const { return load_part<V>(p, n); }
  void store(V v, float* p) const { store_part(v, p, n); }
};
template <class V, class Body>
inline __attribute__((always_inline)) void for_lanes(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, Whole<V>{});
  if (i < count) body(i, Part<V>{count - i});
}

// Adding and subtracting 1.5 * 2^23 rounds |x| < 2^22 to an integer, half to even.
inline constexpr float kRoundMagic = 12582912.0f;

// e^x, off by at most 1.01 ulp (docs/NUMERICS.md; tests/kernels/float_kernels_test.cpp); 0 below -87.33
// (where the result would be subnormal), +inf above 88.72, NaN for NaN. x = n ln 2 + r with |r| <= ln 2 / 2;
// e^r = 1 + r + r^2 p(r), p the minimax polynomial of degree 4 (relative error 3.1e-9 = 0.05 ulp). The high
// part of ln 2 has 17 bits, so that n * high is exact.
inline constexpr float kExpLow = -0x1.5d589ep+6f;  // just above ln 2^-126 = -87.33654475
inline constexpr float kExpHigh = 0x1.62e430p+6f;  // just above ln 2^128 = 88.72283906
template <class V>
V exp(V x) {
  const V magic = V::broadcast(kRoundMagic);
  const V shifted = V::add(V::mul(x, V::broadcast(0x1.715476p+0f)), magic);
  const V n = V::sub(shifted, magic);
  V r = V::fma(n, V::broadcast(-0x1.62e4p-1f), x);
  r = V::fma(n, V::broadcast(-0x1.7f7d1cp-20f), r);
  V p = V::broadcast(0x1.6a2434p-10f);
  p = V::fma(p, r, V::broadcast(0x1.1239e2p-7f));
  p = V::fma(p, r, V::broadcast(0x1.5558f2p-5f));
  p = V::fma(p, r, V::broadcast(0x1.555492p-3f));
  p = V::fma(p, r, V::broadcast(0x1.fffffcp-2f));
  const V e = V::add(V::fma(V::mul(r, r), p, r), V::broadcast(1.0f));
  const V scaled = V::add_exponent(e, shifted);
  const V low = V::broadcast(kExpLow), high = V::broadcast(kExpHigh);
  const V finite = V::select_less(x, low, V::zero(), scaled);
  return V::select_less(x, high, finite, V::mul(x, V::broadcast(0x1.fffffep+127f)));
}

// The largest lane of non-negative m, by bit pattern: NaN is greater than everything.
template <class V>
float largest_magnitude(V m) {
  alignas(64) float lanes[kLanes];
  m.store(lanes);
  uint32_t largest = 0;
  for (const float lane : lanes) {
    const uint32_t bits = __builtin_bit_cast(uint32_t, lane);
    largest = bits > largest ? bits : largest;
  }
  return __builtin_bit_cast(float, largest);
}

// A row with a NaN or an infinity: q and sum are 0 and the scale is NaN or 0, so that every product of the
// row, 0 * (row_scale / scale), is NaN. Otherwise |x * (127 / m)| <= 127 (1 + 2^-22): rounding cannot leave
// [-127, 127], and the clamp to [-128, 127] is implied. Lane sums are exact: 127 * 2^18 / 16 < 2^24.
// value(i, access) is 16 (or, at the end, the rest) of the row's elements from i on.
template <class V, class Value>
inline __attribute__((always_inline)) void quantize_row(Value value, int64_t cols, int8_t* q, float* scale,
                                                        int32_t* sum) {
  V m = V::broadcast(1e-5f);
  for_lanes<V>(cols, [&](int64_t i, auto access) { m = V::max_magnitude(m, value(i, access)); });
  const float magnitude = largest_magnitude(m);
  *scale = 127.0f / magnitude;
  const bool finite = magnitude <= 0x1.fffffep+127f;
  const V factor = V::broadcast(*scale), magic = V::broadcast(kRoundMagic);
  V sums = V::zero();
  for_lanes<V>(cols, [&](int64_t i, auto access) {
    const V scaled = V::mul(value(i, access), factor);
    const V rounded = finite ? V::sub(V::add(scaled, magic), magic) : V::zero();
    sums = V::add(sums, rounded);
    rounded.store_i8(q + i);
  });
  alignas(64) float lanes[kLanes];
  sums.store(lanes);
  int32_t total = 0;
  for (const float lane : lanes) total += static_cast<int32_t>(lane);
  *sum = total;
}

template <class V>
void quantize(const QuantizeArgs& a) {
  for (int64_t t = 0; t < a.tokens; ++t) {
    const float* x = a.x + t * a.x_stride;
    const auto value = [&](int64_t i, auto access) { return access.load(x + i); };
    quantize_row<V>(value, a.cols, a.q + t * a.q_stride, a.scale + t, a.sum + t);
  }
}

// Sum of squares over 16 lanes of f64: the products are exact, and the compiler can vectorize it as it
// stands.
template <class V>
double sum_of_squares(const float* x, int64_t count) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j)
      lanes[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  }
  for (int64_t j = 0; i + j < count; ++j)
    lanes[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
  for (int64_t width = kLanes / 2; width >= 1; width /= 2) {
    for (int64_t j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0];
}

// float(1 / sqrt(mean(x^2) + eps)), in every lane.
template <class V>
V norm_factor(const float* x, int64_t cols, float eps) {
  const double mean = sum_of_squares<V>(x, cols) / static_cast<double>(cols);
  return V::broadcast(static_cast<float>(1.0 / __builtin_sqrt(mean + static_cast<double>(eps))));
}

template <class V>
void rms_norm(const RmsNormArgs& a) {
  for (int64_t t = 0; t < a.tokens; ++t) {
    const float* x = a.x + t * a.x_stride;
    float* y = a.y + t * a.y_stride;
    const V scale = norm_factor<V>(x, a.cols, a.eps);
    for_lanes<V>(a.cols, [&](int64_t i, auto access) {
      access.store(V::mul(V::mul(access.load(x + i), scale), access.load(a.weight + i)), y + i);
    });
  }
}

// The normed row is computed twice rather than stored: two products an element against a store and a load.
template <class V>
void norm_quantize(const NormQuantizeArgs& a) {
  const V factor = norm_factor<V>(a.x, a.cols, a.eps);
  const auto value = [&](int64_t i, auto access) {
    return V::mul(V::mul(access.load(a.x + i), factor), access.load(a.weight + i));
  };
  quantize_row<V>(value, a.cols, a.q, a.scale, a.sum);
}

template <class V>
void rope(const RopeArgs& a) {
  const int64_t half = a.head_dim / 2;
  const V minus = V::broadcast(-1.0f);
  for (int64_t t = 0; t < a.tokens; ++t) {
    const float* cos = a.cos + t * half;
    const float* sin = a.sin + t * half;
    for (int64_t head = 0; head < a.heads; ++head) {
      float* x = a.x + t * a.x_stride + head * a.head_dim;
      for_lanes<V>(half, [&](int64_t i, auto access) {
        const V c = access.load(cos + i), s = access.load(sin + i);
        const V re = access.load(x + i), im = access.load(x + half + i);
        access.store(V::fma(V::mul(im, minus), s, V::mul(re, c)), x + i);
        access.store(V::fma(re, s, V::mul(im, c)), x + half + i);
      });
    }
  }
}

// max(g, 0) is written 0 > g ? 0 : g, which keeps a NaN.
template <class V>
void glu_relu2(const GluArgs& a) {
  for_lanes<V>(a.count, [&](int64_t i, auto access) {
    const V g = V::max(V::zero(), access.load(a.gate + i));
    access.store(V::mul(V::mul(g, g), access.load(a.up + i)), a.h + i);
  });
}

template <class V>
void glu_silu(const GluArgs& a) {
  const V one = V::broadcast(1.0f);
  for_lanes<V>(a.count, [&](int64_t i, auto access) {
    const V g = access.load(a.gate + i);
    const V act = V::div(g, V::add(one, exp(V::sub(V::zero(), g))));
    access.store(V::mul(act, access.load(a.up + i)), a.h + i);
  });
}

template <class V>
void add(float* x, const float* y, int64_t count) {
  for_lanes<V>(count, [&](int64_t i, auto access) {
    access.store(V::add(access.load(x + i), access.load(y + i)), x + i);
  });
}

template <class V>
void store_f16(const float* x, uint16_t* out, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) V::load(x + i).store_f16(out + i);
  if (i == count) return;
  alignas(64) uint16_t buffer[kLanes];
  load_part<V>(x + i, count - i).store_f16(buffer);
  for (int64_t j = 0; i + j < count; ++j) out[i + j] = buffer[j];
}

}  // namespace bitnet::kernels
