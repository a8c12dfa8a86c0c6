#include "bitnet/core/half.h"
#include "kernel_test.h"

#include <cmath>
#include <limits>

namespace bitnet::kernels {
namespace {

constexpr double kEpsilon = 0x1p-24;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// One head's cache as inference/kv_cache.h lays it out, once for each type and all three of one value:
/// integers times a power of two. What no query may use is NaN where the type has one, and memory ends where
/// it may not be read.
struct Cache {
  int64_t positions, head_dim, key_dim8, value_dim;
  GuardedArray<float> k32, v32, k_scale, v_scale;
  GuardedArray<uint16_t> k16, v16;
  GuardedArray<int8_t> k8, v8;

  Cache(Random& random, int64_t count, int64_t dim, float range)
      : positions(count),
        head_dim(dim),
        key_dim8(round_up(dim, 4)),
        value_dim(round_up(dim, 16)),
        k32(round_up(count, 16) * dim),
        v32(count * value_dim),
        k_scale(round_up(count, 16)),
        v_scale(round_up(count, 16)),
        k16(round_up(count, 16) * dim),
        v16(count * value_dim),
        k8(round_up(count, 16) * key_dim8),
        v8(round_up(count, 4) * value_dim) {
    for (const auto unseen : {k32.span(), k_scale.span(), v_scale.span()})
      std::fill(unseen.begin(), unseen.end(), kNaN);
    k16.fill(f32_to_f16(kNaN));
    for (int64_t p = 0; p < count; ++p) {
      k_scale[p] = range / 128 * (p % 2 == 0 ? 1.0f : 0.5f);
      v_scale[p] = range / 128 * (p % 3 == 0 ? 1.0f : 0.25f);
      for (int64_t d = 0; d < dim; ++d) {
        const int64_t key = key_index(p, d), value = p * value_dim + d;
        const int k = std::uniform_int_distribution<int>(-127, 127)(random);
        const int v = std::uniform_int_distribution<int>(-127, 127)(random);
        k8[p / 16 * 16 * key_dim8 + d / 4 * 64 + p % 16 * 4 + d % 4] = static_cast<int8_t>(k);
        v8[(p / 4 * value_dim + d) * 4 + p % 4] = static_cast<int8_t>(v);
        k32[key] = static_cast<float>(k) * k_scale[p];
        v32[value] = static_cast<float>(v) * v_scale[p];
        k16[key] = f32_to_f16(k32[key]);
        v16[value] = f32_to_f16(v32[value]);
      }
    }
  }
  [[nodiscard]] int64_t key_index(int64_t p, int64_t d) const {
    return (p / 16 * head_dim + d) * 16 + p % 16;
  }
  [[nodiscard]] const void* keys(DType type, int64_t start) const {
    if (type == DType::kI8) return k8.data() + start * key_dim8;
    if (type == DType::kF16) return k16.data() + start * head_dim;
    return k32.data() + start * head_dim;
  }
  [[nodiscard]] const void* values(DType type, int64_t start) const {
    if (type == DType::kI8) return v8.data() + start * value_dim;
    if (type == DType::kF16) return v16.data() + start * value_dim;
    return v32.data() + start * value_dim;
  }
};

struct Queries {
  std::vector<int32_t> lengths;  ///< over the whole cache
  GuardedArray<float> q;         ///< multiples of the scale: q8 is the same, exactly
  GuardedArray<int8_t> q8;
  std::vector<float> q_scale;
  std::vector<int32_t> q_sum;
  int64_t stride8;
  float scale;

  Queries(Random& random, std::vector<int32_t> seen, int64_t dim, float range)
      : lengths(std::move(seen)),
        q(std::ssize(lengths) * dim),
        q8(std::ssize(lengths) * round_up(dim, 4)),
        q_scale(lengths.size()),
        q_sum(lengths.size()),
        stride8(round_up(dim, 4)),
        scale(1 / std::sqrt(static_cast<float>(dim))) {
    for (int64_t i = 0; i < count(); ++i) {
      const auto row = static_cast<size_t>(i);
      q_scale[row] = range / 128 * (i % 2 == 0 ? 1.0f : 0.75f);
      for (int64_t d = 0; d < dim; ++d) {
        const int integer = std::uniform_int_distribution<int>(-127, 127)(random);
        q8[i * stride8 + d] = static_cast<int8_t>(integer);
        q_sum[row] += integer;
        q[i * dim + d] = static_cast<float>(integer) * q_scale[row];
      }
    }
  }
  [[nodiscard]] int64_t count() const { return std::ssize(lengths); }
};

struct State {
  std::vector<float> max, sum;
  GuardedArray<float> o;
  int64_t stride;
  State(int64_t rows, int64_t dim)
      : max(static_cast<size_t>(rows)),
        sum(static_cast<size_t>(rows)),
        o(rows * round_up(dim, 16), true),
        stride(round_up(dim, 16)) {
    o.fill(kNaN);
  }
  AttentionState from(int64_t row) {
    return {&max[static_cast<size_t>(row)], &sum[static_cast<size_t>(row)], &o[row * stride], stride};
  }
};

/// Every query over its part of the cache, chunk after chunk; [queries, head_dim] of o / sum.
std::vector<float> attend(const KernelTable& table, const Queries& queries, const Cache& cache, DType type) {
  const int64_t rows = queries.count(), dim = cache.head_dim;
  State total(rows, dim), part(rows, dim);
  GuardedArray<float> weights(rows * kAttentionChunk, true);
  for (int64_t start = 0; start < cache.positions; start += kAttentionChunk) {
    // The queries are ordered by length: those that see this chunk are the last ones.
    int64_t first = 0;
    while (queries.lengths[static_cast<size_t>(first)] <= start) ++first;
    std::vector<int32_t> lengths;
    for (int64_t i = first; i < rows; ++i)
      lengths.push_back(static_cast<int32_t>(
          std::min<int64_t>(queries.lengths[static_cast<size_t>(i)] - start, kAttentionChunk)));
    State& state = start == 0 ? total : part;
    const auto row = static_cast<size_t>(first);
    table.attention_chunk({.q = queries.q.data() + first * dim,
                           .q8 = queries.q8.data() + first * queries.stride8,
                           .q_scale = &queries.q_scale[row],
                           .q_sum = &queries.q_sum[row],
                           .q_stride = type == DType::kI8 ? queries.stride8 : dim,
                           .queries = rows - first,
                           .lengths = lengths.data(),
                           .keys = cache.keys(type, start),
                           .values = cache.values(type, start),
                           .key_scale = cache.k_scale.data() + start,
                           .value_scale = cache.v_scale.data() + start,
                           .kv_type = type,
                           .head_dim = dim,
                           .scale = queries.scale,
                           .weights = weights.data(),
                           .out = state.from(first)});
    if (start > 0)
      table.attention_merge(
          {.total = total.from(first), .part = part.from(first), .rows = rows - first, .head_dim = dim});
  }
  std::vector<float> out;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < dim; ++d)
      out.push_back(total.o[i * total.stride + d] * (1 / total.sum[static_cast<size_t>(i)]));
    for (int64_t d = dim; d < total.stride; ++d) EXPECT_EQ(total.o[i * total.stride + d], 0);
  }
  return out;
}

/// The definition in double, and how far the kernels may be from it.
struct Expected {
  std::vector<double> out;
  double tolerance = 0;
};

Expected by_definition(const Queries& queries, const Cache& cache, int64_t query, DType type) {
  const auto length = static_cast<size_t>(queries.lengths[static_cast<size_t>(query)]);
  std::vector<double> score(length);
  double magnitude = 0, value_bound = 0;
  for (size_t p = 0; p < length; ++p) {
    double products = 0;
    for (int64_t d = 0; d < cache.head_dim; ++d) {
      const double product = double{queries.q[query * cache.head_dim + d]} *
                             cache.k32[cache.key_index(static_cast<int64_t>(p), d)];
      score[p] += product * queries.scale;
      products += std::fabs(product) * queries.scale;
    }
    magnitude = std::max(magnitude, products);
  }
  const double maximum = *std::max_element(score.begin(), score.end());
  double total = 0;
  Expected expected;
  expected.out.resize(static_cast<size_t>(cache.head_dim));
  for (size_t p = 0; p < length; ++p) {
    const double weight = std::exp(score[p] - maximum);
    total += weight;
    for (size_t d = 0; d < expected.out.size(); ++d) {
      const double value = cache.v32[static_cast<int64_t>(p) * cache.value_dim + static_cast<int64_t>(d)];
      expected.out[d] += weight * value;
      value_bound = std::max(value_bound, std::fabs(value));
    }
  }
  for (double& value : expected.out) value /= total;
  // A score passes head_dim + 2 roundings of at most `magnitude`, and the difference from the maximum one
  // more of twice that; a chunk's maximum and the merge's factors do so again. A relative weight error counts
  // in o and in sum; exp adds 1.01 ulp = 2 eps for each of the chunk and the merge; the chains of o and sum
  // add at most 256 + 21 roundings, a merge 3 and the division 2.
  const auto dim = static_cast<double>(cache.head_dim), chunks = std::ceil(static_cast<double>(length) / 256);
  const double weight_error = magnitude * (2 * (dim + 2) + 2 + 2 * chunks) + 2 + 2 * chunks;
  expected.tolerance = value_bound * kEpsilon * (2 * weight_error + 277 + 3 * chunks + 2);
  // kI8: each weight times its value's scale is off by half a step, 1 / 16383 of the largest, before the
  // division by the sum; and 4 roundings more.
  if (type == DType::kI8)
    expected.tolerance += value_bound * (static_cast<double>(length) * 0.5 / 16383 / total + 4 * kEpsilon);
  return expected;
}

std::vector<int32_t> causal(int64_t queries, int64_t length, int64_t heads) {
  std::vector<int32_t> lengths;
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t later = (queries - 1) / heads - i / heads;  // tokens behind this one
    lengths.push_back(static_cast<int32_t>(std::max<int64_t>(length - later, 1)));
  }
  return lengths;
}

class Attention : public KernelTest {
 protected:
  void check(const Queries& queries, const Cache& cache, DType type) const {
    const std::vector<float> out = attend(table(), queries, cache, type);
    ASSERT_TRUE(same_bits<float>(out, attend(scalar_table(), queries, cache, type)))
        << to_string(type) << ", " << queries.count() << " queries, head_dim " << cache.head_dim << ", "
        << cache.positions << " positions";
    if (&table() != &scalar_table()) return;
    for (int64_t i = 0; i < queries.count(); ++i) {
      const Expected expected = by_definition(queries, cache, i, type);
      for (size_t d = 0; d < expected.out.size(); ++d)
        ASSERT_NEAR(out[static_cast<size_t>(i) * expected.out.size() + d], expected.out[d],
                    expected.tolerance);
    }
  }
};
BITNET_TEST_EVERY_TABLE(Attention);

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kI8};

TEST_P(Attention, EqualsTheOracleAndTheFormula) {
  Random random(11);
  for (const int64_t head_dim : {64, 96, 100, 128, 256, 6}) {
    for (int64_t length = 1; length <= 17; ++length) {
      const Cache cache(random, length, head_dim, 1);
      for (const DType type : kTypes) check(Queries(random, causal(5, length, 2), head_dim, 1), cache, type);
    }
  }
}

TEST_P(Attention, ManyQueriesOverFullChunksEqualTheOracleAndTheFormula) {
  Random random(12);
  size_t turn = 0;
  for (const int64_t head_dim : {64, 96, 100, 128, 256}) {
    for (const int64_t length : {255, 256, 257, 513}) {
      const Cache cache(random, length, head_dim, 2);
      for (const int64_t queries : {1, 4, 5, 7, 33}) {
        if (length * head_dim * queries > 300 * 128 * 33) continue;  // the oracle takes its time
        check(Queries(random, causal(queries, length, 4), head_dim, 2), cache, kTypes[turn++ % 3]);
      }
    }
  }
}

TEST_P(Attention, LengthsNeedNotBeNeighbours) {
  Random random(13);
  const Cache cache(random, 300, 64, 1);
  for (const DType type : kTypes) {
    check(Queries(random, {1, 2, 16, 17, 63, 64, 65, 100, 128, 129, 250, 256, 257, 300}, 64, 1), cache, type);
  }
}

TEST_P(Attention, AQuerysResultDoesNotDependOnItsCompany) {
  Random random(14);
  const Cache cache(random, 200, 128, 1);
  const Queries together(random, causal(13, 200, 1), 128, 1);
  for (const DType type : kTypes) {
    const std::vector<float> all = attend(table(), together, cache, type);
    for (int64_t i = 0; i < together.count(); ++i) {
      Queries alone(random, {together.lengths[static_cast<size_t>(i)]}, 128, 1);
      std::copy_n(together.q.data() + i * 128, 128, alone.q.data());
      std::copy_n(together.q8.data() + i * 128, 128, alone.q8.data());
      alone.q_scale[0] = together.q_scale[static_cast<size_t>(i)];
      alone.q_sum[0] = together.q_sum[static_cast<size_t>(i)];
      const std::vector<float> one = attend(table(), alone, cache, type);
      EXPECT_TRUE(same_bits<float>(one, std::span(all).subspan(static_cast<size_t>(i) * 128, 128)));
    }
  }
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  Random random(15);
  const Cache cache(random, 300, 64, 1000);
  const Queries queries(random, causal(9, 300, 1), 64, 1000);
  for (const DType type : kTypes) {
    const std::vector<float> out = attend(table(), queries, cache, type);
    EXPECT_TRUE(same_bits<float>(out, attend(scalar_table(), queries, cache, type)));
    for (const float value : out) EXPECT_LE(std::fabs(value), 1000.0f * (1 + 0x1p-20f));
  }
}

TEST_P(Attention, OneKeyGivesItsValue) {
  Random random(16);
  const Cache cache(random, 1, 128, 1);
  const Queries query(random, {1}, 128, 1);
  for (const DType type : kTypes) {
    const std::vector<float> out = attend(table(), query, cache, type);
    // kI8: 16383 * v * (scale / 16383) rounds three times.
    const float error = type == DType::kI8 ? 0x1p-22f : 0;
    for (int64_t d = 0; d < 128; ++d) EXPECT_NEAR(out[static_cast<size_t>(d)], cache.v32[d], error);
  }
}

TEST_P(Attention, ExtremesOfIntegersFit) {
  Random random(17);
  Cache cache(random, 256, 256, 1);
  Queries queries(random, causal(7, 256, 7), 256, 1);
  for (const int sign : {1, -1}) {  // equal keys: equal weights, each the largest
    cache.k8.fill(static_cast<int8_t>(127 * sign));
    cache.v8.fill(static_cast<int8_t>(127 * sign));
    std::fill(cache.k_scale.span().begin(), cache.k_scale.span().end(), 1.0f);
    std::fill(cache.v_scale.span().begin(), cache.v_scale.span().end(), 1.0f);
    queries.q8.fill(127);
    std::fill(queries.q_sum.begin(), queries.q_sum.end(), 127 * 256);
    for (const float value : attend(table(), queries, cache, DType::kI8))
      EXPECT_NEAR(value, 127 * sign, 1e-4);
    queries.q8.fill(-127);
    std::fill(queries.q_sum.begin(), queries.q_sum.end(), -127 * 256);
    for (const float value : attend(table(), queries, cache, DType::kI8))
      EXPECT_NEAR(value, 127 * sign, 1e-4);
  }
}

TEST_P(Attention, ANaNStaysVisible) {
  Random random(18);
  Cache cache(random, 300, 64, 1);
  Queries queries(random, causal(7, 300, 1), 64, 1);
  queries.q[3 * 64 + 5] = kNaN;
  queries.q_scale[3] = kNaN;
  for (const DType type : kTypes) {
    const std::vector<float> out = attend(table(), queries, cache, type);
    for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 64 == 3);
  }
  cache.v_scale[298] = kNaN;  // the last two queries see it
  const std::vector<float> out = attend(table(), queries, cache, DType::kI8);
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i / 64 == 3 || i / 64 >= 5);
}

}  // namespace
}  // namespace bitnet::kernels
