// The persistent decode kernel against the decode kernels one by one.

#include "bitnet/model/convert.h"
#include "cuda_test.h"
#include "inference/cuda_step.h"
#include "inference/fixtures.h"
#include "temporary_folder.h"

#include <numeric>

namespace bitnet::cuda {
namespace {

class Step : public CudaTest {
 protected:
  /// Runs tokens at the positions, each by both, and compares the hidden states. Before the first, both
  /// caches hold the same random numbers: 0.25 to 0.5 of either sign, or int8 with scales of 1/512 to 1/256.
  void compare(const std::filesystem::path& file, DType kv_type, std::span<const int32_t> positions);
};

std::vector<float> hidden_state(const Scratch& scratch, const ModelConfig& config) {
  std::vector<float> x = to_host<float>(scratch.x);
  x.resize(static_cast<size_t>(config.hidden_size));
  return x;
}

void Step::compare(const std::filesystem::path& file, DType kv_type, std::span<const int32_t> positions) {
  const int64_t context = positions.back() + 1;
  const auto model = Model::load(file);
  const ModelConfig& config = model->config();
  const auto weights = model_on_device(model->impl(), 0, {.threads = 1});
  Scratch scratch(config, 1, context);
  CudaForward forward(config, *weights, scratch, kv_type, context);
  CudaStep step(config, *weights, scratch, kv_type, context);
  if (!step.runs()) GTEST_SKIP() << "this GPU decodes kernel by kernel";
  const CudaCache kernels_cache(model->impl(), *weights, context, kv_type),
      step_cache(model->impl(), *weights, context, kv_type);
  const size_t bytes = static_cast<size_t>(step_cache.bytes() / 2);
  const bool half = kv_type == DType::kF16, i8 = kv_type == DType::kI8;
  const uint32_t random_bits = half ? 0x83ff83ffu : 0x807fffffu, exponents = half ? 0x34003400u : 0x3e800000u;
  Random random(7);
  std::vector<uint32_t> stored(bytes / sizeof(uint32_t));
  for (uint32_t& word : stored) word = (static_cast<uint32_t>(random()) & random_bits) | exponents;
  if (i8) {
    const auto elements = static_cast<size_t>(config.num_layers * step_cache.positions() * kv_row(config));
    for (size_t i = 0; i < elements / 4; ++i) stored[i] = static_cast<uint32_t>(random());
    for (size_t i = elements / 4; i < stored.size(); ++i) stored[i] = 0x3b000000u | (stored[i] & 0x7fffffu);
  }
  run([&](Stream stream) {
    for (const CudaCache* cache : {&kernels_cache, &step_cache}) {
      table().to_device(cache->keys(), stored.data(), bytes, stream);
      table().to_device(cache->values(), stored.data(), bytes, stream);
    }
    table().rope_table({.inv_freq = weights->inv_freq.as<float>(),
                        .positions = context,
                        .half = config.head_dim / 2,
                        .cos = scratch.cos.as<float>(),
                        .sin = scratch.sin.as<float>()},
                       stream);
  });
  for (const int32_t position : positions) {
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

TEST_F(Step, HasTheBitsOfTheKernelsOneByOne) {
  std::vector<int32_t> positions(700);  // up to three chunks
  std::iota(positions.begin(), positions.end(), 0);
  for (const DType kv_type : {DType::kF32, DType::kF16, DType::kI8})
    compare(testing::bundled_model(), kv_type, positions);
}

// A block has several slices of keys and of values, and joins more chunks than it gathers at once.
TEST_F(Step, HasTheBitsOfTheKernelsOneByOneInLongContexts) {
  const std::vector<int32_t> positions{1023, 1024, 2815, 4095, 4096, 8191, 8192, 8447, 8448, 8699};
  for (const DType kv_type : {DType::kF32, DType::kF16, DType::kI8})
    compare(testing::bundled_model(), kv_type, positions);
}

struct Shape {
  const char* name;
  int64_t heads, kv_heads, head_dim;
  bool sub_norms;
  Activation activation;
};

TEST_F(Step, HasTheBitsOfTheKernelsOneByOneForHeadsOfAllKinds) {
  const std::vector<Shape> shapes{
      {"two parts of four, three slices of dimensions", 16, 2, 72, true, Activation::kRelu2},
      {"parts of four and of three", 14, 2, 64, false, Activation::kSilu},
      {"each head its own keys, of less than a slice", 32, 32, 20, true, Activation::kRelu2},
      {"two heads of 128 that share keys", 2, 1, 128, false, Activation::kSilu},
      // Too few blocks for slices of dimensions: from two chunks on, from three on, always.
      {"three heads of 72 that share keys, whole chunks", 72, 24, 72, true, Activation::kRelu2},
      {"four heads of 128 that share keys, whole chunks", 64, 16, 128, true, Activation::kRelu2},
      {"a block for each head, whole chunks", 100, 100, 40, true, Activation::kRelu2}};
  std::vector<int32_t> positions(40);
  std::iota(positions.begin(), positions.end(), 0);
  for (const int32_t position : {255, 256, 257, 511, 512, 600, 1300, 2303}) positions.push_back(position);
  const testing::TemporaryFolder folder;
  for (const Shape& shape : shapes) {
    SCOPED_TRACE(shape.name);
    SynthOptions options;
    options.config.architecture = shape.sub_norms ? "bitnet-b1.58" : "llama";
    options.config.name = "heads";
    options.config.vocab_size = 300;
    options.config.hidden_size = 256;
    options.config.intermediate_size = 384;
    options.config.num_layers = 2;
    options.config.num_heads = shape.heads;
    options.config.num_kv_heads = shape.kv_heads;
    options.config.head_dim = shape.head_dim;
    options.config.max_position = 4096;
    options.config.activation = shape.activation;
    options.config.sub_norms = shape.sub_norms;
    synthesize(options, folder / "m.gguf");
    for (const DType kv_type : {DType::kF32, DType::kF16}) compare(folder / "m.gguf", kv_type, positions);
    if (shape.head_dim % 16 == 0) compare(folder / "m.gguf", DType::kI8, positions);  // others: by the graph
  }
}

}  // namespace
}  // namespace bitnet::cuda
