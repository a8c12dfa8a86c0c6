// Choosing a device; most of it needs no GPU.

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
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
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda0"})
    EXPECT_EQ(error_of({.context = 64, .device = name}), ErrorCode::kInvalidArgument) << name;
  EXPECT_EQ(error_of({.isa = "scalar", .context = 64, .device = "cuda"}), ErrorCode::kInvalidArgument);
}

TEST_F(Device, AGpuThatIsNotThereIsAnErrorWithTheReason) {
  EXPECT_EQ(error_of({.context = 64, .device = "cuda:63"}), ErrorCode::kUnsupported);
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

}  // namespace
}  // namespace bitnet
