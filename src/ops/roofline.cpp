#include "bitnet/core/memory.h"
#include "bitnet/ops/metrics.h"
#include "ops/host_backend.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

namespace bitnet {
namespace {

/// Seconds of the fastest of some runs of body.
template <class Body>
double fastest(int runs, Body&& body) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

/// Bytes read and written per second by the fastest addition of f32 there is, on operands of `bytes`.
double bandwidth(int64_t bytes, int passes, int runs) {
  AlignedBuffer a(static_cast<size_t>(bytes)), b(static_cast<size_t>(bytes)), y(static_cast<size_t>(bytes));
  std::byte* const operands[] = {y.data(), a.data(), b.data()};
  std::memset(a.data(), 1, a.size());
  std::memset(b.data(), 1, b.size());
  std::memset(y.data(), 1, y.size());
  constexpr int64_t strides[] = {1, 1, 1};
  const auto kernel = ops::simd_kernels().loop(Op::kAdd, DType::kF32);
  const double seconds = fastest(runs, [&] {
    for (int pass = 0; pass < passes; ++pass) kernel(bytes / 4, operands, strides);
  });
  return static_cast<double>(3 * bytes * passes) / seconds;
}

constexpr int64_t kCacheBytes = 1 << 14, kMemoryBytes = 1 << 25;

}  // namespace

double Roofline::seconds(int64_t bytes, double operations) const {
  const double rate = bytes <= 3 * kCacheBytes ? cache_bytes_per_second : memory_bytes_per_second;
  return std::max(static_cast<double>(bytes) / rate, operations / operations_per_second);
}

const Roofline& measured_roofline() {
  static const Roofline roofline = [] {
    Roofline measured;
    measured.cache_bytes_per_second = bandwidth(kCacheBytes, 20, 10);
    measured.memory_bytes_per_second = bandwidth(kMemoryBytes, 1, 3);
    measured.operations_per_second = ops::measure_multiply_adds();
    return measured;
  }();
  return roofline;
}

}  // namespace bitnet
