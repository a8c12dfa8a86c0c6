#include "bitnet/core/half.h"
#include "kernel_test.h"

#include <cmath>

namespace bitnet::kernels {
namespace {

constexpr double kEpsilon = 0x1p-24;

struct Cache {
  GuardedArray<float> k32, v32;
  GuardedArray<uint16_t> k16, v16;

  Cache(Random& random, int64_t count, float range) : k32(count), v32(count), k16(count), v16(count) {
    for (int64_t i = 0; i < count; ++i) {
      k16[i] = f32_to_f16(uniform(random, -range, range));
      v16[i] = f32_to_f16(uniform(random, -range, range));
      k32[i] = f16_to_f32(k16[i]);  // the same values, so that both types have one answer
      v32[i] = f16_to_f32(v16[i]);
    }
  }
};

struct Query {
  int64_t length, head_dim, kv_stride;
  float scale;
  const float* q;
};

std::vector<float> attend(const KernelTable& table, const Query& query, const Cache& cache, DType type) {
  GuardedArray<float> scores(round_up(query.length, 16), true), out(query.head_dim);
  const bool half = type == DType::kF16;
  table.attention({.q = query.q,
                   .k = half ? static_cast<const void*>(cache.k16.data()) : cache.k32.data(),
                   .v = half ? static_cast<const void*>(cache.v16.data()) : cache.v32.data(),
                   .kv_type = type,
                   .kv_stride = query.kv_stride,
                   .length = query.length,
                   .head_dim = query.head_dim,
                   .scale = query.scale,
                   .scores = scores.data(),
                   .out = out.data()});
  return {out.span().begin(), out.span().end()};
}

std::vector<double> by_definition(const Query& query, const Cache& cache) {
  std::vector<double> score(static_cast<size_t>(query.length));
  for (size_t p = 0; p < score.size(); ++p) {
    for (int64_t d = 0; d < query.head_dim; ++d)
      score[p] += double{query.q[d]} * cache.k32[static_cast<int64_t>(p) * query.kv_stride + d];
    score[p] *= query.scale;
  }
  const double maximum = *std::max_element(score.begin(), score.end());
  double total = 0;
  std::vector<double> out(static_cast<size_t>(query.head_dim));
  for (size_t p = 0; p < score.size(); ++p) {
    const double weight = std::exp(score[p] - maximum);
    total += weight;
    for (size_t d = 0; d < out.size(); ++d)
      out[d] += weight * cache.v32[static_cast<int64_t>(p) * query.kv_stride + static_cast<int64_t>(d)];
  }
  for (double& value : out) value /= total;
  return out;
}

class Attention : public KernelTest {};
BITNET_TEST_EVERY_TABLE(Attention);

TEST_P(Attention, EqualsTheOracleAndTheFormula) {
  Random random(11);
  for (const int64_t head_dim : {16, 32, 64, 96, 100, 128, 256, 7}) {
    for (const int64_t length : {1, 2, 3, 4, 7, 8, 15, 16, 17, 33, 100, 513}) {
      const int64_t stride = 2 * head_dim;
      // The last row ends with the head: nothing beyond it may be read.
      const Cache cache(random, (length - 1) * stride + head_dim, 1);
      GuardedArray<float> q(round_up(head_dim, 16), true);
      for (int64_t d = 0; d < head_dim; ++d) q[d] = uniform(random, -1, 1);
      const Query query{length, head_dim, stride, 1 / std::sqrt(static_cast<float>(head_dim)), q.data()};
      const std::vector<float> half = attend(table(), query, cache, DType::kF16);
      EXPECT_TRUE(same_bits<float>(half, attend(scalar_table(), query, cache, DType::kF16)));
      EXPECT_TRUE(same_bits<float>(half, attend(table(), query, cache, DType::kF32)));
      // |score| < sqrt(head_dim), off by head_dim / 16 + 6 roundings of it: the weights are off by that, by 1
      // ulp of exp and by the sum's roundings; v is at most 1.
      const double score_error =
          std::sqrt(static_cast<double>(head_dim)) * (static_cast<double>(head_dim) / 16 + 6) * kEpsilon;
      const double tolerance = 2 * score_error + (2.0 * static_cast<double>(length) + 8) * kEpsilon;
      const std::vector<double> expected = by_definition(query, cache);
      for (size_t d = 0; d < expected.size(); ++d) EXPECT_NEAR(half[d], expected[d], tolerance);
    }
  }
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  Random random(12);
  const Cache cache(random, 40 * 64, 100);
  GuardedArray<float> q(64, true);
  fill_uniform(random, q.span(), -100, 100);
  const Query query{40, 64, 64, 1.0f, q.data()};
  const std::vector<float> out = attend(table(), query, cache, DType::kF32);
  EXPECT_TRUE(same_bits<float>(out, attend(scalar_table(), query, cache, DType::kF32)));
  for (const float value : out) EXPECT_LE(std::fabs(value), 100.0f);
}

TEST_P(Attention, OneKeyGivesItsValue) {
  Random random(13);
  const Cache cache(random, 128, 1);
  GuardedArray<float> q(128, true);
  fill_uniform(random, q.span(), -1, 1);
  const std::vector<float> out = attend(table(), {1, 128, 128, 0.1f, q.data()}, cache, DType::kF16);
  for (int64_t d = 0; d < 128; ++d) EXPECT_EQ(out[static_cast<size_t>(d)], cache.v32[d]);
}

}  // namespace
}  // namespace bitnet::kernels
