// Products of many tokens are dealt out in parts of rows and tokens: none is missing, none done for another.

#include "inference/projector.h"

#include "fixtures.h"

#include <array>
#include <random>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr int64_t kProjectedCols = 300;

ModelConfig projected_config() {
  ModelConfig config;
  config.hidden_size = config.intermediate_size = kProjectedCols;
  config.num_heads = config.num_kv_heads = 1;
  config.head_dim = 64;
  return config;
}

/// Two layers that read the same x: y of one behind y of the other. At most `at_once` tokens at a time.
std::vector<float> project(Executor executor, const std::array<Linear, 2>& layers, std::vector<float>& x,
                           int64_t at_once) {
  const ModelConfig config = projected_config();
  const int64_t tokens = std::ssize(x) / kProjectedCols;
  const int64_t first = layers[0].weight.rows(), stride = first + layers[1].weight.rows();
  Projector projector(config, executor, tokens);
  std::vector<float> y(static_cast<size_t>(tokens * stride), 7.0f);
  for (int64_t t = 0; t < tokens; t += at_once) {
    float* const row = y.data() + t * stride;
    projector.project(std::array{Projector::Job{layers.data(), {row, stride}},
                                 Projector::Job{&layers[1], {row + first, stride}}},
                      std::min(at_once, tokens - t), {x.data() + t * kProjectedCols, kProjectedCols}, {});
  }
  return y;
}

TEST(Projector, ThreadsTakePartsOfTheTokens) {
  for (const TernaryLayout layout : {TernaryLayout::kBlocks, TernaryLayout::kTight}) {
    for (const auto& [first, second] : {std::pair{16, 300}, std::pair{83, 17}}) {
      const std::array layers = {testing::random_linear(first, kProjectedCols, layout, 0.25f),
                                 testing::random_linear(second, kProjectedCols, layout, 0.5f)};
      for (const int64_t tokens : {63, 64, 127, 128, 130, 193, 256, 300}) {
        std::vector<float> x(static_cast<size_t>(tokens * kProjectedCols));
        std::mt19937 random(static_cast<uint32_t>(tokens));
        for (float& value : x) value = static_cast<float>(random()) * 0x1p-31f - 1.0f;
        ThreadPool alone(1);
        const kernels::KernelTable& table = kernels::select_kernels("");
        const std::vector<float> expected = project({table, alone}, layers, x, 1);
        for (const int threads : {1, 2, 5}) {
          ThreadPool pool(threads);
          const std::vector<float> y = project({table, pool}, layers, x, tokens);
          ASSERT_EQ(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0)
              << to_string(layout) << ", " << first << " and " << second << " rows, " << tokens << " tokens, "
              << threads << " threads";
        }
      }
    }
  }
}

}  // namespace
}  // namespace bitnet
