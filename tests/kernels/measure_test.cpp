#include "bitnet/kernels/measure.h"

#include "bitnet/core/error.h"
#include "kernels/kernel_table.h"
#include "kernels/measure/int8_peak.h"

#include <set>
#include <span>
#include <string>

#include <gtest/gtest.h>

namespace bitnet::kernels {
namespace {

TEST(Measure, TheInt8PeakOfEveryTableComputesWhatItCounts) {
  int count = 0;
  const KernelTable* const* const tables = runnable_kernels(&count);
  for (const KernelTable* table : std::span(tables, static_cast<size_t>(count))) {
    const Int8Peak& peak = int8_peak(table->name);
    EXPECT_EQ(&peak == &kPlainPeak, table->name == "scalar") << table->name;
    // 8192 is the length of a block of the kinds that sum in int16.
    for (const int64_t rounds : {int64_t{0}, int64_t{1}, int64_t{8191}, int64_t{8193}, int64_t{20000}})
      EXPECT_EQ(peak.run(rounds), rounds * peak.macs_per_round) << table->name << " " << rounds;
  }
}

TEST(Measure, AMachineHasBothBounds) {
  const MachineBound bound = measure_machine(2, "scalar", 1 << 20);
  EXPECT_EQ(bound.threads, 2);
  EXPECT_EQ(bound.int8_instruction, "plain C++");
  EXPECT_GT(bound.read_bytes_per_second, 0);
  EXPECT_GT(bound.int8_macs_per_second, 0);
  EXPECT_THROW(static_cast<void>(measure_machine(1, "abacus")), Error);
}

TEST(Measure, EveryKernelIsTimedAtOddShapes) {
  KernelShapes shapes;
  shapes.hidden = 100;
  shapes.intermediate = 150;
  shapes.heads = 4;
  shapes.kv_heads = 2;
  shapes.head_dim = 6;
  shapes.vocab = 33;
  shapes.tokens = {1, 5};
  shapes.lengths = {7};
  shapes.cold_bytes = 1 << 14;
  shapes.kv = DType::kI8;
  std::set<std::string> kernels;
  for (const KernelSpeed& speed : measure_kernels(shapes, 2)) {
    kernels.insert(speed.kernel);
    EXPECT_GT(speed.seconds, 0) << speed.kernel << " " << speed.shape;
  }
  EXPECT_EQ(kernels, (std::set<std::string>{"ternary_matmul", "ternary_rows", "ternary_columns",
                                            "dense_matmul f16", "scan_i4", "attention i8", "quantize",
                                            "rms_norm", "norm_quantize", "glu_relu2", "add", "rope"}));
}

TEST(Measure, ShapesThatCannotBeAreRefused) {
  EXPECT_THROW(static_cast<void>(measure_kernels(KernelShapes{}, 1)), Error);
}

}  // namespace
}  // namespace bitnet::kernels
