// Compiled for AVX2, and therefore without any std code (cpu/float_kernels.h): the tiles of the AVX-VNNI
// table over an emulated vpdpbusd.

#if defined(__x86_64__)

#include "kernels/cpu/avxvnni/ternary_matmul.h"

namespace bitnet::kernels {
namespace {

/// codes are 0..2 or 0..192 (masked in place), so the products of a pair do not always fit int16: each
/// product is made apart, in int32.
struct EmulatedDot {
  static __m256i dot(__m256i sum, __m256i codes, __m256i activations) {
    for (int byte = 0; byte < 4; ++byte) {
      const __m256i code = _mm256_and_si256(_mm256_srli_epi32(codes, 8 * byte), _mm256_set1_epi32(0xff));
      const __m256i activation = _mm256_srai_epi32(_mm256_slli_epi32(activations, 24 - 8 * byte), 24);
      sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(code, activation));
    }
    return sum;
  }
};

}  // namespace

void emulated_avx_vnni_matmul(const TernaryMatmulArgs& args) {
  avxvnni::ternary_matmul<EmulatedDot>(args);
}

}  // namespace bitnet::kernels

#endif
