#include "inference/kv_cache.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "inference/model_impl.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr int64_t kContext = 70, kHeadDim = 22, kValueDim = 32, kKvHeads = 3, kLayers = 2,
                  kKvSize = kKvHeads * kHeadDim;

ModelConfig small_config() {
  ModelConfig config;
  config.num_layers = kLayers;
  config.num_heads = 2 * kKvHeads;
  config.num_kv_heads = kKvHeads;
  config.head_dim = kHeadDim;
  return config;
}

std::vector<float> random_row(std::mt19937& random) {
  std::vector<float> row(kKvSize);
  for (float& value : row) value = std::uniform_real_distribution<float>(-2, 2)(random);
  return row;
}

float element(DType type, const void* array, int64_t index) {
  if (type == DType::kF32) return static_cast<const float*>(array)[index];
  if (type == DType::kF16) return f16_to_f32(static_cast<const uint16_t*>(array)[index]);
  return static_cast<float>(static_cast<const int8_t*>(array)[index]);
}

/// What attention reads, by the layouts that kv_cache.h states.
float key_at(const KvCache& cache, int64_t layer, int64_t position, int64_t i) {
  const KvCache::Chunk chunk = cache.chunk(layer, i / kHeadDim, position / 16 * 16);
  const int64_t d = i % kHeadDim, j = position % 16;
  if (cache.dtype() != DType::kI8) return element(cache.dtype(), chunk.keys, d * 16 + j);
  return element(cache.dtype(), chunk.keys, d / 4 * 64 + j * 4 + d % 4) * chunk.key_scale[j];
}
int64_t value_place(DType type, int64_t position, int64_t d) {
  return type == DType::kI8 ? (position / 4 * kValueDim + d) * 4 + position % 4 : position * kValueDim + d;
}
float value_at(const KvCache& cache, int64_t layer, int64_t position, int64_t i) {
  const KvCache::Chunk chunk = cache.chunk(layer, i / kHeadDim, 0);
  const float value =
      element(cache.dtype(), chunk.values, value_place(cache.dtype(), position, i % kHeadDim));
  return chunk.value_scale == nullptr ? value : value * chunk.value_scale[position];
}

/// The largest error of one stored element x of a head whose largest magnitude is at most 2.
double storage_error(DType type) {
  if (type == DType::kF32) return 0;
  if (type == DType::kF16) return 2 * 0x1p-11;
  return 2.0 / 127 * 0.5 * (1 + 1e-5);
}

class KvCacheTest : public ::testing::TestWithParam<DType> {
 protected:
  struct Rows {
    std::vector<std::vector<float>> k, v;
  };
  Rows fill(KvCache& cache, int64_t layer, unsigned seed) const {
    std::mt19937 random(seed);
    Rows rows;
    for (int64_t position = 0; position < kContext; ++position) {
      rows.k.push_back(random_row(random));
      rows.v.push_back(random_row(random));
      cache.store(table, layer, position, rows.k.back().data(), rows.v.back().data());
    }
    return rows;
  }
  const kernels::KernelTable& table = kernels::select_kernels("");
};
INSTANTIATE_TEST_SUITE_P(Types, KvCacheTest, ::testing::Values(DType::kF32, DType::kF16, DType::kI8),
                         [](const auto& suite) { return std::string(to_string(suite.param)); });

TEST_P(KvCacheTest, HoldsWhatWasStoredWhereAttentionLooks) {
  KvCache cache(small_config(), kContext, GetParam());
  const Rows rows[] = {fill(cache, 0, 1), fill(cache, 1, 2)};
  const double error = storage_error(GetParam());
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    for (int64_t position = 0; position < kContext; ++position) {
      const auto p = static_cast<size_t>(position);
      for (int64_t i = 0; i < kKvSize; ++i) {
        ASSERT_NEAR(key_at(cache, layer, position, i), rows[layer].k[p][static_cast<size_t>(i)], error);
        ASSERT_NEAR(value_at(cache, layer, position, i), rows[layer].v[p][static_cast<size_t>(i)], error);
      }
    }
  }
}

TEST_P(KvCacheTest, ValueRowsArePaddedWithZeros) {
  KvCache cache(small_config(), kContext, GetParam());
  (void)fill(cache, 1, 3);
  for (int64_t head = 0; head < kKvHeads; ++head) {
    const void* values = cache.chunk(1, head, 0).values;
    for (int64_t position = 0; position < kContext; ++position) {
      for (int64_t d = kHeadDim; d < kValueDim; ++d)
        ASSERT_EQ(element(GetParam(), values, value_place(GetParam(), position, d)), 0);
    }
  }
}

TEST_P(KvCacheTest, ShiftRotatesKeysAndMovesValues) {
  constexpr int64_t kFrom = 23, kCount = 19;  // neither whole blocks
  KvCache cache(small_config(), kContext, GetParam());
  const Rows rows = fill(cache, 1, 4);
  std::vector<float> inv_freq(kHeadDim / 2), cos(kHeadDim / 2), sin(kHeadDim / 2);
  for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] = std::pow(10.0f, -0.2f * static_cast<float>(i));
  rope_angles(inv_freq, -static_cast<float>(kCount), cos.data(), sin.data());
  std::vector<float> before, stored_values;
  for (int64_t position = kFrom; position < kContext; ++position) {
    for (int64_t i = 0; i < kKvSize; ++i) {
      before.push_back(key_at(cache, 1, position, i));
      stored_values.push_back(value_at(cache, 1, position, i));
    }
  }
  cache.shift(table, kFrom, kContext, kCount, inv_freq);
  KvCache expected(small_config(), kContext, GetParam());
  for (int64_t position = 0; position < kContext - kCount; ++position) {
    std::vector<float> key = rows.k[static_cast<size_t>(position)];
    if (position >= kFrom - kCount) {
      std::copy_n(before.begin() + (position + kCount - kFrom) * kKvSize, kKvSize, key.begin());
      table.rope({.x = key.data(),
                  .x_stride = kKvSize,
                  .tokens = 1,
                  .heads = kKvHeads,
                  .head_dim = kHeadDim,
                  .cos = cos.data(),
                  .sin = sin.data()});
    }
    expected.store(table, 1, position, key.data(), key.data());
    for (int64_t i = 0; i < kKvSize; ++i) {
      ASSERT_EQ(key_at(cache, 1, position, i), key_at(expected, 1, position, i));
      if (position < kFrom - kCount) continue;
      ASSERT_EQ(value_at(cache, 1, position, i),
                stored_values[static_cast<size_t>((position + kCount - kFrom) * kKvSize + i)]);
    }
  }
}

TEST_P(KvCacheTest, ANaNStaysVisible) {
  KvCache cache(small_config(), kContext, GetParam());
  std::mt19937 random(5);
  std::vector<float> row = random_row(random);
  row[kHeadDim + 3] = std::numeric_limits<float>::quiet_NaN();
  cache.store(table, 0, 17, row.data(), row.data());
  EXPECT_TRUE(std::isnan(key_at(cache, 0, 17, kHeadDim + 3)));
  EXPECT_TRUE(std::isnan(value_at(cache, 0, 17, kHeadDim + 3)));
  EXPECT_FALSE(std::isnan(key_at(cache, 0, 17, 3)));
}

TEST(KvCache, NarrowTypesAreSmaller) {
  ModelConfig config = small_config();
  config.head_dim = 128;
  const int64_t f32 = KvCache(config, 256, DType::kF32).bytes();
  EXPECT_EQ(f32, 256 * kLayers * kKvHeads * 128 * 2 * 4);
  EXPECT_EQ(KvCache(config, 256, DType::kF16).bytes(), f32 / 2);
  EXPECT_EQ(KvCache(config, 256, DType::kI8).bytes(), f32 / 4 + 256 * kLayers * kKvHeads * 2 * 4);
}

TEST(KvCache, RefusesWhatItCannotHold) {
  ModelConfig config = small_config();
  EXPECT_THROW(KvCache(config, kContext, DType::kBF16), Error);
  EXPECT_THROW(KvCache(config, int64_t{1} << 60, DType::kF32), Error);
  config.head_dim = 1040;
  EXPECT_THROW(KvCache(config, kContext, DType::kI8), Error);
  EXPECT_NO_THROW(KvCache(config, kContext, DType::kF16));
}

}  // namespace
}  // namespace bitnet
