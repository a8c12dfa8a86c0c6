// The tiles of the AVX-VNNI table on every machine with AVX2, over an emulated vpdpbusd.

#if defined(__x86_64__)

#include "bitnet/kernels/cpu.h"
#include "ternary_problem.h"

namespace bitnet::kernels {

void emulated_avx_vnni_matmul(const TernaryMatmulArgs& args);  // avx_vnni_emulated.cpp

namespace {

class AvxVnniTiles : public testing::Test {
 protected:
  void SetUp() override {
    if (!cpu_features().avx2) GTEST_SKIP() << "this machine has no AVX2";
    table.name = "avx_vnni, emulated";
    table.ternary_matmul = emulated_avx_vnni_matmul;
  }
  KernelTable table = {};
};

TEST_F(AvxVnniTiles, AreExactForEveryTokenCount) {
  for (int64_t tokens = 1; tokens <= 33; ++tokens) {
    for (const int64_t rows : {1, 9, 16, 40}) {
      for (const int64_t cols : {16, 100, 528}) {
        random_ternary_problem(rows, cols, tokens).check(table);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(AvxVnniTiles, AreExactUpToTheBoundOnColumns) {
  for (const int64_t tokens : {1, 2, 3, 6}) {
    TernaryProblem(
        1, (int64_t{1} << 18) - 16, tokens, [](int64_t, int64_t) { return 1; },
        [](int64_t, int64_t) { return -128; })
        .check(table);
  }
}

}  // namespace
}  // namespace bitnet::kernels

#endif
