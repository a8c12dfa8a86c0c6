// Choosing a device; most of it needs no GPU.

#include "inference/device.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "bitnet/inference/cuda_speed.h"
#include "bitnet/inference/session.h"
#include "cuda_test.h"
#include "inference/fixtures.h"

namespace bitnet {
namespace {

class Device : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(testing::bundled_model()); }
  static void TearDownTestSuite() { model_.reset(); }
  static ErrorCode error_of(const SessionOptions& options) {
    try {
      Session session(model_, options);
    } catch (const Error& error) {
      EXPECT_FALSE(error.hint().empty()) << error.what();
      return error.code();
    }
    return ErrorCode::kInternal;
  }
  static std::shared_ptr<const Model> model_;
};
std::shared_ptr<const Model> Device::model_;

TEST_F(Device, NamesAreChecked) {
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda0", "cuda:0,", "cuda:,1",
                           "cuda:0,,1", "cuda:0;1", "cuda:0,1,0"})
    EXPECT_EQ(error_of({.context = 64, .device = name}), ErrorCode::kInvalidArgument) << name;
  EXPECT_EQ(error_of({.isa = "scalar", .context = 64, .device = "cuda"}), ErrorCode::kInvalidArgument);
}

TEST_F(Device, AGpuThatIsNotThereIsAnErrorWithTheReason) {
  EXPECT_EQ(error_of({.context = 64, .device = "cuda:63"}), ErrorCode::kUnsupported);
  EXPECT_EQ(error_of({.context = 64, .device = "cuda:62,63"}), ErrorCode::kUnsupported);
}

TEST(DeviceNames, ListGpusInTheirOrder) {
  EXPECT_EQ(cuda_indices("cuda"), std::vector<int>{0});
  EXPECT_EQ(cuda_indices("auto"), std::vector<int>{0});
  EXPECT_EQ(cuda_indices("cuda:7"), std::vector<int>{7});
  EXPECT_EQ(cuda_indices("cuda:2,0,11"), (std::vector<int>{2, 0, 11}));
}

TEST_F(Device, AutoTakesTheProcessorAndSaysWhy) {
  std::string log;
  set_log_callback([&](LogLevel, std::string_view message) { log += message; });
  const Session named(model_, {.isa = "scalar", .context = 64, .device = "auto"});
  EXPECT_EQ(named.isa(), "scalar");
  EXPECT_NE(log.find("'scalar' are asked for"), std::string::npos) << log;
  log.clear();
  const CudaDevices found = cuda_devices();
  const Session session(model_, {.context = 64, .device = "auto"});
  set_log_callback({}, LogLevel::kOff);
  if (found.devices.empty()) {
    EXPECT_NE(session.isa(), "cuda");
    EXPECT_NE(log.find(found.reason), std::string::npos) << log;
    EXPECT_EQ(error_of({.context = 64, .device = "cuda"}), ErrorCode::kUnsupported);
  } else {
    EXPECT_EQ(session.isa(), "cuda");
  }
}

TEST(CudaSpeed, NamesAndMissingGpusAreErrors) {
  const auto error_of = [](const char* device) {
    try {
      (void)measure_cuda_bound(device);
    } catch (const Error& error) {
      EXPECT_FALSE(error.hint().empty()) << error.what();
      return error.code();
    }
    return ErrorCode::kInternal;
  };
  EXPECT_EQ(error_of("cpu"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(error_of("cuda:63"), ErrorCode::kUnsupported);
}

TEST(CudaSpeed, ExchangesAreMeasuredOfSeveralGpus) {
  KernelShapes shapes;
  shapes.hidden = 200, shapes.intermediate = 300, shapes.heads = 4, shapes.kv_heads = 2, shapes.head_dim = 50;
  shapes.vocab = 100, shapes.tokens = {1, 33, 300};
  EXPECT_THROW((void)measure_cuda_exchanges(shapes, "cuda:62,63"), Error);
  const size_t gpus = cuda_devices().devices.size();
  if (gpus < 2) GTEST_SKIP() << "there are " << gpus << " GPUs, not 2";
  const std::vector<KernelSpeed> speeds = measure_cuda_exchanges(shapes, "cuda:0,1");
  EXPECT_TRUE(speeds.size() == 6 || speeds.size() == 12) << speeds.size();
  for (const KernelSpeed& speed : speeds) EXPECT_GT(speed.seconds, 0) << speed.kernel << " " << speed.shape;
}

TEST(CudaSpeed, MeasuresEveryProductOnce) {
  if (cuda_devices().devices.empty()) GTEST_SKIP() << cuda_devices().reason;
  const CudaBound bound = measure_cuda_bound();
  EXPECT_GT(bound.read_bytes_per_second, 1e10);
  EXPECT_GT(bound.int8_operations_per_second, 1e12);
  KernelShapes shapes;
  shapes.hidden = 200, shapes.intermediate = 300, shapes.heads = 4, shapes.kv_heads = 2, shapes.head_dim = 50;
  shapes.vocab = 10, shapes.cold_bytes = 0;
  shapes.tokens = {1, 33};
  const std::vector<KernelSpeed> speeds = measure_cuda_kernels(shapes);
  EXPECT_EQ(speeds.size(), 7U * 3);  // seven matrices: one token; 33 tokens, and their rounding
  for (const KernelSpeed& speed : speeds) EXPECT_GT(speed.seconds, 0) << speed.kernel << " " << speed.shape;
}

}  // namespace
}  // namespace bitnet
