#include "kernels/cpu/select.h"

#include "bitnet/core/error.h"
#include "kernel_test.h"
#include "kernels/cpu/contest.h"

#include <cstdlib>

namespace bitnet::kernels {
namespace {

TEST(Select, TakesScalarWhereNothingElseRuns) {
  EXPECT_EQ(select(CpuFeatures{}, "").name, "scalar");
}

TEST(Select, TakesTheBestThatTheFeaturesAllow) {
#if defined(__x86_64__)
  CpuFeatures features;
  features.avx2 = true;
  EXPECT_EQ(select(features, "").name, "avx2");
  features.avx512 = true;
  EXPECT_EQ(select(features, "").name, "avx2") << "AVX-512 without VNNI has no table";
  features.avx_vnni = true;
  EXPECT_EQ(select(features, "").name, "avx_vnni");
  features.amx_int8 = true;
  EXPECT_EQ(select(features, "").name, "avx_vnni") << "the AMX table needs AVX-512 VNNI too";
  features.amx_int8 = false;
  features.avx512_vnni = true;
  EXPECT_EQ(select(features, "").name, "avx512vnni");
  features.amx_int8 = true;
  EXPECT_EQ(select(features, "").name, "avx512vnni") << "the AMX table needs VBMI too";
  features.amx_int8 = false;
  features.avx512_vbmi = true;
  EXPECT_EQ(select(features, "").name, "avx512vbmi");
  features.amx_int8 = true;
  EXPECT_EQ(select(features, "").name, "amx");
#elif defined(__aarch64__)
  CpuFeatures features;
  features.neon = true;
  EXPECT_EQ(select(features, "").name, "neon");
  features.neon_dotprod = true;
  EXPECT_EQ(select(features, "").name, "neon_dotprod");
  features.neon_i8mm = true;
  EXPECT_EQ(select(features, "").name, "neon_i8mm");
#else
  GTEST_SKIP() << "this architecture has the scalar table only";
#endif
}

TEST(Select, HonoursEveryRunnableName) {
  for (const KernelTable* table : all_runnable()) EXPECT_EQ(&select(cpu_features(), table->name), table);
}

TEST(Select, ThrowsOnAnUnknownNameAndSaysWhatThereIs) {
  try {
    (void)select(cpu_features(), "avx1024");
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(error.message().find("'avx1024' is not in this build"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("scalar"), std::string::npos) << error.message();
  }
}

TEST(Select, ThrowsOnATableThatTheMachineCannotRun) {
  const std::vector<const KernelTable*> tables = all_runnable();
  if (tables.size() == 1) GTEST_SKIP() << "this machine runs the scalar table only";
  try {
    (void)select(CpuFeatures{}, tables.front()->name);
    FAIL() << "did not throw";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(error.message().find("cannot run on this machine"), std::string::npos) << error.message();
  }
}

TEST(Select, EnvironmentVariableIsHonouredAndAnArgumentOverridesIt) {
  const char* before = std::getenv("BITNET_ISA");
  const std::string saved = before == nullptr ? "" : before;
  setenv("BITNET_ISA", "scalar", 1);
  EXPECT_EQ(select_kernels("").name, "scalar");
  EXPECT_EQ(select_kernels(all_runnable().front()->name).name, all_runnable().front()->name);
  setenv("BITNET_ISA", "no such set", 1);
  EXPECT_THROW((void)select_kernels(""), Error);
  setenv("BITNET_ISA", "", 1);
  EXPECT_EQ(select_kernels("").name, chosen_isa());
  if (measured_isas().empty()) {
    EXPECT_EQ(&select_kernels(""), all_runnable().front());
  }
  if (before == nullptr) {
    unsetenv("BITNET_ISA");
  } else {
    setenv("BITNET_ISA", saved.c_str(), 1);
  }
}

TEST(Select, ATableMustBeClearlyFasterToDisplaceTheFirst) {
  KernelTable first = {}, second = {}, third = {};
  const auto fastest_of = [&](double a, double b, double c) {
    return &fastest({{&first, a}, {&second, b}, {&third, c}});
  };
  EXPECT_EQ(fastest_of(1.0, 2.0, 3.0), &first);
  EXPECT_EQ(fastest_of(1.0, 0.95, 0.91), &first) << "within the noise of the measurement";
  EXPECT_EQ(fastest_of(1.0, 0.85, 0.8), &third);
  EXPECT_EQ(fastest_of(1.0, 0.5, 0.8), &second);
}

TEST(Select, MeasuresOnlyWhereFeaturesDoNotDecide) {
  EXPECT_TRUE(close_tables(CpuFeatures{}).empty());
#if defined(__x86_64__)
  CpuFeatures features;
  features.avx2 = features.avx512 = features.avx512_vnni = true;
  EXPECT_TRUE(close_tables(features).empty());
  features.avx_vnni = true;
  EXPECT_EQ(close_tables(features).size(), 2);
  features.avx512_vbmi = true;
  EXPECT_EQ(close_tables(features).size(), 2);
  features.amx_int8 = true;
  EXPECT_TRUE(close_tables(features).empty()) << "tiles are far ahead where many tokens count";
#endif
}

TEST(Select, MeasuresEveryTable) {
  for (const KernelTable* table : all_runnable()) EXPECT_GT(measure_ternary(*table), 0) << table->name;
}

TEST(Select, TheTighterLayoutMustBeClearlyFaster) {
  EXPECT_TRUE(tight_pays(1.0, 0.9));
  EXPECT_FALSE(tight_pays(1.0, 0.97)) << "within the noise of the measurement";
  EXPECT_FALSE(tight_pays(1.0, 1.2));
}

TEST(Select, MeasuresLayoutsOnceForEachNumberOfThreads) {
  const auto one = measured_layouts({}, 1), again = measured_layouts({}, 1);
  ASSERT_EQ(one.has_value(), again.has_value());
  EXPECT_FALSE(measured_layouts("scalar", 1).has_value());
  if (!one.has_value()) GTEST_SKIP() << "the kernels of this machine take one layout only";
  EXPECT_GT(one->t2x16, 0);
  EXPECT_EQ(one->t53x16, again->t53x16);
}

TEST(Select, AvailableIsasEndWithScalar) {
  const std::vector<std::string_view> names = available_isas();
  ASSERT_EQ(names.size(), all_runnable().size());
  EXPECT_EQ(names.back(), "scalar");
}

}  // namespace
}  // namespace bitnet::kernels
