// Instructions by their names, with .arch, so that the unit itself is baseline code.
#if defined(__aarch64__)

#include "kernels/cpu/unroll.h"
#include "kernels/measure/int8_peak.h"

#include <arm_neon.h>

namespace bitnet::kernels {
namespace {

// Enough independent sums for latency times throughput: 4 cycles, 4 a cycle.
constexpr int kSums = 16;

int64_t sum_of(const int32x4_t (&sums)[kSums]) {
  int64_t result = 0;
  BITNET_UNROLL for (const int32x4_t& sum : sums) result += vaddlvq_s32(sum);
  return result;
}

int64_t run_neon(int64_t rounds) {
  // int16 lanes: 2 a round, 2 * 8192 < 2^15.
  constexpr int64_t kRoundsOfInt16 = 8192;
  const int8x16_t ones = vdupq_n_s8(1);
  int64_t total = 0;
  for (int64_t done = 0; done < rounds; done += kRoundsOfInt16) {
    const int64_t now = rounds - done < kRoundsOfInt16 ? rounds - done : kRoundsOfInt16;
    int16x8_t sums[kSums];
    BITNET_UNROLL for (int16x8_t& sum : sums) sum = vdupq_n_s16(0);
    for (int64_t round = 0; round < now; ++round) {
      BITNET_UNROLL for (int16x8_t& sum : sums) {
        __asm__ volatile("smlal %0.8h, %1.8b, %1.8b\n\tsmlal2 %0.8h, %1.16b, %1.16b" : "+w"(sum) : "w"(ones));
      }
    }
    BITNET_UNROLL for (const int16x8_t& sum : sums) total += vaddlvq_s16(sum);
  }
  return total;
}

int64_t run_dotprod(int64_t rounds) {
  const int8x16_t ones = vdupq_n_s8(1);
  int32x4_t sums[kSums];
  BITNET_UNROLL for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
  for (int64_t round = 0; round < rounds; ++round) {
    BITNET_UNROLL for (int32x4_t& sum : sums) {
      __asm__ volatile(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %1.16b" : "+w"(sum) : "w"(ones));
    }
  }
  return sum_of(sums);
}

int64_t run_i8mm(int64_t rounds) {
  const int8x16_t ones = vdupq_n_s8(1);
  int32x4_t sums[kSums];
  BITNET_UNROLL for (int32x4_t& sum : sums) sum = vdupq_n_s32(0);
  for (int64_t round = 0; round < rounds; ++round) {
    BITNET_UNROLL for (int32x4_t& sum : sums) {
      __asm__ volatile(".arch armv8.2-a+i8mm\n\tsmmla %0.4s, %1.16b, %1.16b" : "+w"(sum) : "w"(ones));
    }
  }
  return sum_of(sums);
}

constexpr int64_t kLaneLimit = int64_t{1} << 31;
constexpr Int8Peak kNeon = {"smlal", kSums * 16, kLaneLimit, &run_neon};
constexpr Int8Peak kDotprod = {"sdot", kSums * 16, kLaneLimit / 4 - 1, &run_dotprod};
constexpr Int8Peak kI8mm = {"smmla", kSums * 32, kLaneLimit / 8 - 1, &run_i8mm};

}  // namespace

const Int8Peak* architecture_peak(std::string_view isa) {
  if (isa == "neon_i8mm") return &kI8mm;
  if (isa == "neon_dotprod") return &kDotprod;
  if (isa == "neon") return &kNeon;
  return nullptr;
}

}  // namespace bitnet::kernels

#endif
