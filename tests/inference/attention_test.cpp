// Attention over caches of several chunks: whatever threads, batches and company compute it, the bits are the
// same.

#include "inference/attention.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr int64_t kHeads = 6, kKvHeads = 2, kGroup = kHeads / kKvHeads, kHeadDim = 24;
constexpr int64_t kQSize = kHeads * kHeadDim, kKvSize = kKvHeads * kHeadDim, kContext = 1100;

ModelConfig small_config() {
  ModelConfig config;
  config.num_layers = 2;
  config.num_heads = kHeads;
  config.num_kv_heads = kKvHeads;
  config.head_dim = kHeadDim;
  return config;
}

std::vector<float> random_floats(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = std::uniform_real_distribution<float>(-2, 2)(random);
  return values;
}

/// A sequence: q, k, v of every token, and its cache.
struct Conversation {
  Conversation(int64_t count, DType type, unsigned seed)
      : tokens(count),
        q(random_floats(count * kQSize, seed)),
        k(random_floats(count * kKvSize, seed + 1)),
        v(random_floats(count * kKvSize, seed + 2)),
        cache(small_config(), kContext, type) {
    for (int64_t t = 0; t < count; ++t) {
      cache.store(kernels::select_kernels(""), 1, t, k.data() + t * kKvSize, v.data() + t * kKvSize);
    }
  }
  int64_t tokens;
  std::vector<float> q, k, v;
  KvCache cache;
};

/// The outputs of tokens [first, tokens), computed `batch` at a time with `threads` threads.
std::vector<float> attend(Conversation& conversation, int64_t first, int64_t batch, int threads,
                          std::string_view isa = "") {
  const ModelConfig config = small_config();
  ThreadPool pool(threads);
  Attention attention(config, {kernels::select_kernels(isa), pool}, kContext);
  std::vector<float> out(static_cast<size_t>((conversation.tokens - first) * kQSize));
  for (int64_t t = first; t < conversation.tokens; t += batch) {
    std::vector<BatchRow> rows;
    for (int64_t i = t; i < std::min(t + batch, conversation.tokens); ++i)
      rows.push_back({0, i, &conversation.cache});
    attention.run(1, rows, conversation.q.data() + t * kQSize, out.data() + (t - first) * kQSize);
  }
  return out;
}

class AttentionDriver : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, AttentionDriver, ::testing::Values(DType::kF32, DType::kF16, DType::kI8),
                         [](const auto& suite) { return std::string(to_string(suite.param)); });

TEST_P(AttentionDriver, ThreadsAndBatchesDoNotChangeABit) {
  for (const int64_t tokens : {1050, 257, 256, 40}) {
    Conversation conversation(tokens, GetParam(), 1);
    const int64_t first = std::max<int64_t>(tokens - 50, 0);
    const std::vector<float> expected = attend(conversation, first, 1, 1);
    for (const int threads : {1, 2, 5}) {
      for (const int64_t batch : {1, 7, 16, 17, 50}) {
        EXPECT_EQ(attend(conversation, first, batch, threads), expected)
            << tokens << " tokens, " << threads << " threads, batches of " << batch;
      }
    }
    EXPECT_EQ(attend(conversation, first, 20, 2, "scalar"), expected);
  }
}

TEST_P(AttentionDriver, SequencesOfOneBatchDoNotSeeEachOther) {
  Conversation a(700, GetParam(), 10), b(30, GetParam(), 20), c(260, GetParam(), 30);
  const ModelConfig config = small_config();
  for (const int threads : {1, 3}) {
    for (const int64_t tokens : {1, 5, 20}) {  // of each sequence, the last ones
      ThreadPool pool(threads);
      Attention attention(config, {kernels::select_kernels(""), pool}, kContext);
      std::vector<BatchRow> rows;
      std::vector<float> q, expected;
      for (Conversation* conversation : {&a, &b, &c}) {
        const int64_t first = conversation->tokens - tokens;
        for (int64_t t = first; t < conversation->tokens; ++t) rows.push_back({0, t, &conversation->cache});
        q.insert(q.end(), conversation->q.begin() + first * kQSize, conversation->q.end());
        const std::vector<float> alone = attend(*conversation, first, 1, 1);
        expected.insert(expected.end(), alone.begin(), alone.end());
      }
      std::vector<float> out(q.size());
      attention.run(1, rows, q.data(), out.data());
      EXPECT_EQ(out, expected) << threads << " threads, " << tokens << " tokens each";
    }
  }
}

TEST(AttentionDriver, IsSoftmaxAttentionOverAllPositions) {
  Conversation conversation(600, DType::kF32, 40);
  const std::vector<float> out = attend(conversation, 599, 1, 2);
  for (int64_t head = 0; head < kHeads; ++head) {
    const float* q = conversation.q.data() + 599 * kQSize + head * kHeadDim;
    std::vector<double> expected(kHeadDim);
    double total = 0;
    for (int64_t p = 0; p < 600; ++p) {
      const int64_t offset = p * kKvSize + head / kGroup * kHeadDim;
      double score = 0;
      for (int64_t d = 0; d < kHeadDim; ++d)
        score += double{q[d]} * conversation.k[static_cast<size_t>(offset + d)];
      const double weight = std::exp(score / std::sqrt(double{kHeadDim}));
      total += weight;
      for (int64_t d = 0; d < kHeadDim; ++d)
        expected[static_cast<size_t>(d)] += weight * conversation.v[static_cast<size_t>(offset + d)];
    }
    // tests/kernels/attention_test.cpp derives the bound: values up to 2, sums of |q k| up to 4 * 24 /
    // sqrt(24) < 20: 2 * 2^-24 * (2 * (20 * (2 * 26 + 2 + 6) + 8) + 288) < 4e-4.
    for (int64_t d = 0; d < kHeadDim; ++d) {
      EXPECT_NEAR(out[static_cast<size_t>(head * kHeadDim + d)], expected[static_cast<size_t>(d)] / total,
                  4e-4);
    }
  }
}

}  // namespace
}  // namespace bitnet
