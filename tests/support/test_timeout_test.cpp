#include "support/test_timeout.h"

#include <memory>
#include <stdexcept>

#include <gtest/gtest.h>

namespace bitnet::testing {
namespace {

TEST(TestTimeout, ReturnsWhatTheBodyReturns) {
  EXPECT_EQ(TestTimeout("sum", 30).run([] { return 1 + 2; }), 3);
  int calls = 0;
  TestTimeout("count", 30).run([&] { ++calls; });
  EXPECT_EQ(calls, 1);
  const auto owned = TestTimeout("owned", 30).run([] { return std::make_unique<int>(5); });
  EXPECT_EQ(*owned, 5);
}

TEST(TestTimeout, LetsExceptionsThrough) {
  EXPECT_THROW(TestTimeout("throws", 30).run([] { throw std::runtime_error("no"); }), std::runtime_error);
}

TEST(TestTimeoutDeathTest, EndsTheProcessAndNamesWhatHangs) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(TestTimeout("a body that hangs", 0.05 / BITNET_TEST_TIMEOUT_SCALE).run([] {
    std::this_thread::sleep_for(std::chrono::minutes(10));
  }),
              ::testing::ExitedWithCode(TestTimeout::kExitCode), "a body that hangs ran longer than 0.05 s");
}

}  // namespace
}  // namespace bitnet::testing
