#include "kernels/measure/int8_peak.h"

namespace bitnet::kernels {
namespace {

constexpr int64_t kPlainLanes = 64;

int64_t run_plain(int64_t rounds) {
  // Volatile once a round: the compiler may vectorize a round, but not skip it.
  volatile int8_t one = 1;
  int32_t sums[kPlainLanes] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    const int8_t a = one, b = one;
    for (int32_t& sum : sums) sum += a * b;
  }
  int64_t total = 0;
  for (const int32_t sum : sums) total += sum;
  return total;
}

}  // namespace

const Int8Peak kPlainPeak = {"plain C++", kPlainLanes, int64_t{1} << 30, &run_plain};

#if !defined(__x86_64__) && !defined(__aarch64__)
const Int8Peak* architecture_peak(std::string_view) {
  return nullptr;
}
#endif

const Int8Peak& int8_peak(std::string_view isa) {
  const Int8Peak* peak = architecture_peak(isa);
  return peak == nullptr ? kPlainPeak : *peak;
}

}  // namespace bitnet::kernels
