#pragma once

#include <bit>
#include <cstdint>

namespace bitnet::kernels {

/// e^x in binary64 for x <= 0, within 2 ulp: +, * and bits alone, so that the processor and a GPU give the
/// same bits. n = round(x log2 e), r = x - n ln 2 in two parts, Taylor's polynomial of degree 13 for |r| <=
/// ln 2 / 2 (its remainder is below 2^-57), times 2^n. Below -708, where results would be subnormal, and for
/// NaN: 0.
constexpr double exp64(double x) {
  constexpr double kMagic = 0x1.8p+52, kLog2E = 0x1.71547652b82fep+0;
  constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
  if (!(x >= -708.0)) return 0.0;
  const double shifted = x * kLog2E + kMagic;
  const double n = shifted - kMagic;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  constexpr double kTerms[] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0,
                               1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,     1.0 / 120.0,
                               1.0 / 24.0,        1.0 / 6.0,        1.0 / 2.0,       1.0 / 1.0,
                               1.0 / 1.0};
  double p = 1.0 / 6227020800.0;  // 13!
  for (const double term : kTerms) p = p * r + term;
  // n stands in the low bits of `shifted`; it is added to the exponent.
  return std::bit_cast<double>(std::bit_cast<uint64_t>(p) + (std::bit_cast<uint64_t>(shifted) << 52));
}

}  // namespace bitnet::kernels
