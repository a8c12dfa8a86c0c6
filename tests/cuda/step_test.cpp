// The persistent decode kernel against the decode kernels one by one, token by token over several chunks.

#include "cuda_test.h"
#include "inference/cuda_step.h"
#include "inference/fixtures.h"

namespace bitnet::cuda {
namespace {

class Step : public CudaTest {};

std::vector<float> hidden_state(const Scratch& scratch, const ModelConfig& config) {
  std::vector<float> x = to_host<float>(scratch.x);
  x.resize(static_cast<size_t>(config.hidden_size));
  return x;
}

TEST_F(Step, HasTheBitsOfTheKernelsOneByOne) {
  constexpr int64_t kContext = 1100;  // more chunks than a block sums at once
  const auto model = Model::load(testing::bundled_model());
  const ModelConfig& config = model->config();
  const auto weights = model_on_device(model->impl(), 0, 1);
  for (const DType kv_type : {DType::kF32, DType::kF16}) {
    Scratch scratch(config, 1, kContext);
    CudaForward forward(config, *weights, scratch, kv_type, kContext);
    CudaStep step(config, *weights, scratch, kv_type, kContext);
    if (!step.runs()) GTEST_SKIP() << "this GPU decodes kernel by kernel";
    const CudaCache kernels_cache(model->impl(), 0, kContext, kv_type),
        step_cache(model->impl(), 0, kContext, kv_type);
    run([&](Stream stream) {
      table().rope_table({.inv_freq = weights->inv_freq.as<float>(),
                          .positions = kContext,
                          .half = config.head_dim / 2,
                          .cos = scratch.cos.as<float>(),
                          .sin = scratch.sin.as<float>()},
                         stream);
    });
    for (int32_t position = 0; position < kContext; ++position) {
      const auto id = static_cast<int32_t>(position * 37 % config.vocab_size);
      const DecodeRow row{kernels_cache.keys(), kernels_cache.values(), 0, position};
      run([&](Stream stream) {
        table().to_device(scratch.ids.data(), &id, sizeof id, stream);
        table().to_device(scratch.decode_rows.data(), &row, sizeof row, stream);
        forward.decode_one(chunks_of(position + 1), stream);
      });
      const std::vector<float> expected = hidden_state(scratch, config);
      run([&](Stream stream) { step.run(id, position, step_cache, stream); });
      ASSERT_EQ(hidden_state(scratch, config), expected) << "position " << position;
    }
  }
}

}  // namespace
}  // namespace bitnet::cuda
