// Both attention kernels against the scalar table: equal bits.

#include "bitnet/core/half.h"
#include "bitnet/core/memory.h"
#include "cuda_test.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

namespace bitnet::cuda {
namespace {

struct AttentionCase {
  int64_t heads, kv_heads, head_dim, length;  ///< length: positions in the cache before the new tokens
  DType kv_type;
};

/// q, k, v of new tokens before RoPE, and a cache with `length` positions in front of them.
struct Problem {
  AttentionCase shape;
  int64_t tokens, context, q_size, kv_size;
  std::vector<float> qkv, cos, sin;
  std::vector<float> keys, values;  ///< as f32, [context][kv_size]

  Problem(Random& random, AttentionCase c, int64_t count)
      : shape(c),
        tokens(count),
        context(c.length + count + 3),
        q_size(c.heads * c.head_dim),
        kv_size(c.kv_heads * c.head_dim),
        qkv(random_floats(random, tokens * row(), -2, 2)),
        keys(random_floats(random, context * kv_size, -2, 2)),
        values(random_floats(random, context * kv_size, -2, 2)) {
    for (int64_t p = 0; p < context; ++p) {
      for (int64_t i = 0; i < c.head_dim / 2; ++i) {
        cos.push_back(std::cos(static_cast<float>(p) / static_cast<float>(1 + i)));
        sin.push_back(std::sin(static_cast<float>(p) / static_cast<float>(1 + i)));
      }
    }
    for (float& value : keys) value = stored(value);
    for (float& value : values) value = stored(value);
  }

  [[nodiscard]] int64_t row() const { return q_size + 2 * kv_size; }
  [[nodiscard]] float scale() const {
    return static_cast<float>(1 / std::sqrt(static_cast<double>(shape.head_dim)));
  }
  [[nodiscard]] float stored(float value) const {
    return shape.kv_type == DType::kF16 ? f16_to_f32(f32_to_f16(value)) : value;
  }
  /// The GPU's layout: each head padded.
  [[nodiscard]] DeviceBuffer device_cache(const std::vector<float>& from) const {
    const int64_t stride = kv_head_stride(shape.head_dim);
    std::vector<float> rows(static_cast<size_t>(context * shape.kv_heads * stride));
    for (int64_t i = 0; i < context * shape.kv_heads; ++i)
      std::copy_n(from.begin() + i * shape.head_dim, shape.head_dim, rows.begin() + i * stride);
    if (shape.kv_type == DType::kF32) return to_device(rows);
    std::vector<uint16_t> halves;
    for (const float value : rows) halves.push_back(f32_to_f16(value));
    return to_device(halves);
  }
  /// Rotates and stores the new tokens by the scalar table.
  void store_new() {
    const int64_t half = shape.head_dim / 2;
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t p = shape.length + t;
      float* q = qkv.data() + t * row();
      scalar().rope({.x = q,
                     .x_stride = row(),
                     .tokens = 1,
                     .heads = shape.heads + shape.kv_heads,
                     .head_dim = shape.head_dim,
                     .cos = cos.data() + p * half,
                     .sin = sin.data() + p * half});
      for (int64_t i = 0; i < kv_size; ++i) {
        keys[static_cast<size_t>(p * kv_size + i)] = stored(q[q_size + i]);
        values[static_cast<size_t>(p * kv_size + i)] = stored(q[q_size + kv_size + i]);
      }
    }
  }
  /// Keys of a KV head as attention_chunk reads them, from position `start` on.
  [[nodiscard]] AlignedBuffer blocks_of_keys(int64_t kv_head, int64_t start) const {
    AlignedBuffer blocks(static_cast<size_t>(kernels::kAttentionChunk * shape.head_dim) * sizeof(float));
    for (int64_t p = 0; p < std::min(kernels::kAttentionChunk, context - start); ++p) {
      for (int64_t d = 0; d < shape.head_dim; ++d)
        blocks.as<float>()[(p / 16 * shape.head_dim + d) * 16 + p % 16] =
            keys[static_cast<size_t>((start + p) * kv_size + kv_head * shape.head_dim + d)];
    }
    return blocks;
  }
  [[nodiscard]] AlignedBuffer rows_of_values(int64_t kv_head, int64_t start) const {
    const int64_t stride = (shape.head_dim + 15) / 16 * 16;
    AlignedBuffer rows(static_cast<size_t>(kernels::kAttentionChunk * stride) * sizeof(float));
    for (int64_t p = 0; p < std::min(kernels::kAttentionChunk, context - start); ++p)
      std::copy_n(values.begin() + (start + p) * kv_size + kv_head * shape.head_dim, shape.head_dim,
                  rows.as<float>() + p * stride);
    return rows;
  }
  /// One head of token t by the scalar table, chunk by chunk.
  void attend(int64_t t, int64_t head, float* out) const {
    const int64_t visible = shape.length + t + 1, kv_head = head / (shape.heads / shape.kv_heads);
    const int64_t stride = (shape.head_dim + 15) / 16 * 16;
    AlignedBuffer weights(kernels::kAttentionChunk * sizeof(float));
    std::vector<float> o(static_cast<size_t>(2 * stride));
    std::array<float, 2> maximum{}, sum{};
    for (int64_t start = 0; start < visible; start += kernels::kAttentionChunk) {
      const size_t part = start == 0 ? 0 : 1;
      const kernels::AttentionState state{&maximum[part], &sum[part], o.data() + part * stride, stride};
      const auto length = static_cast<int32_t>(std::min(visible - start, kernels::kAttentionChunk));
      const AlignedBuffer k = blocks_of_keys(kv_head, start), v = rows_of_values(kv_head, start);
      scalar().attention_chunk({.q = qkv.data() + t * row() + head * shape.head_dim,
                                .q_stride = shape.head_dim,
                                .queries = 1,
                                .lengths = &length,
                                .keys = k.data(),
                                .values = v.data(),
                                .key_scale = nullptr,
                                .value_scale = nullptr,
                                .kv_type = DType::kF32,
                                .head_dim = shape.head_dim,
                                .scale = scale(),
                                .weights = weights.as<float>(),
                                .out = state});
      if (part == 0) continue;
      scalar().attention_merge({.total = {&maximum[0], &sum[0], o.data(), stride},
                                .part = state,
                                .rows = 1,
                                .head_dim = shape.head_dim});
    }
    const float inverse = 1.0f / sum[0];
    for (int64_t d = 0; d < shape.head_dim; ++d) out[d] = o[static_cast<size_t>(d)] * inverse;
  }
  [[nodiscard]] std::vector<float> attend_all() const {
    std::vector<float> out(static_cast<size_t>(tokens * q_size));
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < shape.heads; ++h) attend(t, h, out.data() + t * q_size + h * shape.head_dim);
    }
    return out;
  }
};

/// Stored keys and values are the scalar table's, bit for bit.
void expect_cache(const Problem& problem, const DeviceBuffer& keys, const DeviceBuffer& values) {
  EXPECT_EQ(to_host<std::byte>(keys), to_host<std::byte>(problem.device_cache(problem.keys)));
  EXPECT_EQ(to_host<std::byte>(values), to_host<std::byte>(problem.device_cache(problem.values)));
}

class Attention : public CudaTest {};

constexpr AttentionCase kCases[] = {
    {4, 4, 16, 0, DType::kF32},     {4, 2, 64, 5, DType::kF32},     {20, 5, 128, 511, DType::kF32},
    {20, 5, 128, 511, DType::kF16}, {6, 1, 100, 33, DType::kF32},   {3, 3, 256, 40, DType::kF16},
    {2, 1, 128, 1300, DType::kF16}, {8, 1, 128, 1024, DType::kF32}, {1, 1, 2, 200, DType::kF32},
};

/// The new token of `row_count` sequences that are all alike.
void expect_decode(Random& random, const AttentionCase& shape, int32_t row_count) {
  SCOPED_TRACE("length " + std::to_string(shape.length) + ", head_dim " + std::to_string(shape.head_dim) +
               ", rows " + std::to_string(row_count));
  Problem problem(random, shape, 1);
  std::vector<float> all_qkv;
  for (int32_t r = 0; r < row_count; ++r)
    all_qkv.insert(all_qkv.end(), problem.qkv.begin(), problem.qkv.end());
  const DeviceBuffer qkv = to_device(all_qkv), cos = to_device(problem.cos), sin = to_device(problem.sin);
  const DeviceBuffer keys = problem.device_cache(problem.keys), values = problem.device_cache(problem.values);
  std::vector<DecodeRow> host_rows;
  for (int32_t r = 0; r < row_count; ++r)
    host_rows.push_back({keys.data(), values.data(), r, static_cast<int32_t>(shape.length)});
  const DeviceBuffer rows = to_device(host_rows);
  const int64_t heads_in_fours = shape.kv_heads * ((shape.heads / shape.kv_heads + 3) / 4 * 4);
  const int64_t chunks = shape.length / kernels::kAttentionChunk + 1;
  const DeviceBuffer partial = filled<float>(row_count * heads_in_fours * (chunks + 2) * kDecodePartial);
  const DeviceBuffer arrived = filled<int32_t>(row_count * heads_in_fours * 8),
                     out = filled<float>(row_count * problem.q_size);
  const auto attend = [&](Stream stream) {
    table().decode_attention({.qkv = qkv.as<float>(),
                              .qkv_stride = problem.row(),
                              .rows = rows.as<DecodeRow>(),
                              .row_count = row_count,
                              .kv_type = shape.kv_type,
                              .layer = 0,
                              .heads = {shape.heads, shape.kv_heads, shape.head_dim},
                              .cos = cos.as<float>(),
                              .sin = sin.as<float>(),
                              .scale = problem.scale(),
                              .max_chunks = chunks + 1,
                              .partial_chunks = chunks + 2,
                              .partial = partial.as<float>(),
                              .arrived = arrived.as<int32_t>(),
                              .out = out.as<float>(),
                              .out_stride = problem.q_size},
                             stream);
  };
  run(attend);
  const std::vector<float> first = to_host<float>(out);
  run(attend);
  EXPECT_EQ(to_host<float>(out), first);  // the counters are zero again, and the order is fixed
  problem.store_new();
  const std::vector<float> expected = problem.attend_all();
  for (int32_t r = 0; r < row_count; ++r) {
    const auto found = std::span(first).subspan(static_cast<size_t>(r * problem.q_size), expected.size());
    EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin(), expected.end())) << "row " << r;
  }
  expect_cache(problem, keys, values);
}

/// Few rows: a cluster of blocks for each; many: a block.
TEST_F(Attention, DecodeHasTheScalarTablesBits) {
  Random random(1);
  for (const AttentionCase& shape : kCases) {
    expect_decode(random, shape, 1);
    expect_decode(random, shape, 70);
  }
}

TEST_F(Attention, PrefillHasTheScalarTablesBits) {
  Random random(2);
  for (const AttentionCase shape : kCases) {
    for (const int64_t tokens : {2, 70}) {
      Problem problem(random, shape, tokens);
      const DeviceBuffer qkv = to_device(problem.qkv), cos = to_device(problem.cos),
                         sin = to_device(problem.sin);
      const DeviceBuffer keys = problem.device_cache(problem.keys),
                         values = problem.device_cache(problem.values);
      const DeviceBuffer out = filled<float>(tokens * problem.q_size);
      const Heads heads{shape.heads, shape.kv_heads, shape.head_dim};
      const KvLayer cache{keys.data(), values.data(), shape.kv_type};
      run([&](Stream stream) {
        table().rope_store({.qkv = qkv.as<float>(),
                            .qkv_stride = problem.row(),
                            .tokens = tokens,
                            .first = shape.length,
                            .heads = heads,
                            .cos = cos.as<float>(),
                            .sin = sin.as<float>(),
                            .cache = cache},
                           stream);
        table().prefill_attention({.qkv = qkv.as<float>(),
                                   .qkv_stride = problem.row(),
                                   .tokens = tokens,
                                   .first = shape.length,
                                   .heads = heads,
                                   .cache = cache,
                                   .scale = problem.scale(),
                                   .out = out.as<float>(),
                                   .out_stride = problem.q_size},
                                  stream);
      });
      problem.store_new();
      EXPECT_EQ(to_host<float>(out), problem.attend_all())
          << "length " << shape.length << ", head_dim " << shape.head_dim;
      expect_cache(problem, keys, values);
    }
  }
}

/// Close to the scalar table's, and each token's the same in whatever batch it comes.
TEST_F(Attention, TensorCoresComeCloseAndDoNotDependOnTheBatch) {
  Random random(3);
  constexpr int64_t kTokens = 150, kFirst = 37;
  for (const AttentionCase shape : {AttentionCase{4, 2, 64, 0, DType::kF16},
                                    {5, 1, 128, 300, DType::kF16},
                                    {4, 4, 128, 0, DType::kF16},
                                    {2, 1, 128, 1000, DType::kF16}}) {
    const Heads heads{shape.heads, shape.kv_heads, shape.head_dim};
    ASSERT_TRUE(table().mma_attention_runs(heads, shape.kv_type));
    Problem problem(random, shape, kTokens);
    const DeviceBuffer qkv = to_device(problem.qkv), cos = to_device(problem.cos),
                       sin = to_device(problem.sin);
    problem.store_new();
    const DeviceBuffer keys = problem.device_cache(problem.keys),
                       values = problem.device_cache(problem.values);
    const DeviceBuffer whole = filled<float>(kTokens * problem.q_size),
                       parts = filled<float>(kTokens * problem.q_size);
    const auto attend = [&](int64_t first, int64_t count, const DeviceBuffer& out, Stream stream) {
      table().mma_attention({.qkv = qkv.as<float>() + first * problem.row(),
                             .qkv_stride = problem.row(),
                             .tokens = count,
                             .first = shape.length + first,
                             .heads = heads,
                             .cache = {keys.data(), values.data(), shape.kv_type},
                             .scale = problem.scale(),
                             .out = out.as<float>() + first * problem.q_size,
                             .out_stride = problem.q_size,
                             .cos = cos.as<float>(),
                             .sin = sin.as<float>()},
                            stream);
    };
    run([&](Stream stream) {
      attend(0, kTokens, whole, stream);
      attend(0, kFirst, parts, stream);
      attend(kFirst, kTokens - kFirst, parts, stream);
    });
    const std::vector<float> found = to_host<float>(whole), expected = problem.attend_all();
    EXPECT_EQ(to_host<float>(parts), found);
    float largest = 0;
    for (size_t i = 0; i < found.size(); ++i) largest = std::max(largest, std::abs(found[i] - expected[i]));
    EXPECT_LT(largest, 2e-5f);  // of values up to 2
  }
}

}  // namespace
}  // namespace bitnet::cuda
