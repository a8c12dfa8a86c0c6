// i8 caches on the GPU: the bits of the processor's scalar kernels.

#include "bitnet/core/error.h"
#include "bitnet/inference/engine.h"
#include "bitnet/inference/generate.h"
#include "cuda_test.h"
#include "inference/cuda_cache.h"
#include "inference/fixtures.h"
#include "temporary_folder.h"

#include <cmath>
#include <limits>
#include <string>

namespace bitnet::cuda {
namespace {

class I8Attention : public CudaTest {};

struct Shape {
  Heads heads;
  int64_t context;
};

/// One layer of two, on both sides.
class Comparison {
 public:
  explicit Comparison(const Shape& shape)
      : heads_(shape.heads),
        context_(shape.context),
        positions_((shape.context + 3) / 4 * 4),
        row_floats_((heads_.heads + 2 * heads_.kv_heads) * heads_.head_dim),
        chunks_((shape.context + kChunk - 1) / kChunk),
        host_(config(), context_, DType::kI8),
        keys_(filled<int8_t>(cache_bytes(), 77)),
        values_(filled<int8_t>(cache_bytes(), -99)),
        angles_(random_floats(random_, context_ * heads_.head_dim)) {}

  [[nodiscard]] std::vector<float> random_rows(int64_t tokens, float size = 1) {
    return random_floats(random_, tokens * row_floats_, -size, size);
  }

  /// Appends the rows at `first`, as one segment or as new tokens of one sequence each.
  void append(std::vector<float> rows, int64_t first, bool segment) {
    const auto tokens = static_cast<int64_t>(rows.size()) / row_floats_;
    const std::vector<float> expected = on_processor(rows, first);
    const std::vector<float> found = on_gpu(rows, first, tokens, segment);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (std::isnan(expected[i]) && std::isnan(found[i])) continue;
      ASSERT_EQ(found[i], expected[i])
          << "element " << i << ", first " << first << ", " << tokens << " tokens";
    }
  }

  void shift(int64_t from, int64_t end, int64_t count) {
    std::vector<float> inv_freq(static_cast<size_t>(heads_.head_dim / 2), 0.01f);
    host_.shift(scalar(), from, end, count, inv_freq);
    std::vector<float> cos(inv_freq.size()), sin(inv_freq.size());
    rope_angles(inv_freq, -static_cast<float>(count), cos.data(), sin.data());
    const DeviceBuffer device_cos = to_device(cos), device_sin = to_device(sin);
    run([&](Stream stream) {
      table().i8_shift({.keys = keys_.data(),
                        .values = values_.data(),
                        .heads = heads_,
                        .positions = positions_,
                        .layers = kLayers,
                        .from = from,
                        .end = end,
                        .count = count,
                        .cos = device_cos.as<float>(),
                        .sin = device_sin.as<float>()},
                       stream);
    });
  }

 private:
  static constexpr int64_t kLayers = 2, kLayer = 1, kChunk = kernels::kAttentionChunk;
  static constexpr float kScale = 0.11f;

  [[nodiscard]] ModelConfig config() const {
    ModelConfig config;
    config.num_layers = kLayers;
    config.num_heads = heads_.heads;
    config.num_kv_heads = heads_.kv_heads;
    config.head_dim = heads_.head_dim;
    return config;
  }
  [[nodiscard]] int64_t cache_bytes() const {
    return kLayers * positions_ * heads_.kv_heads * (kv_head_stride(heads_.head_dim) + 4);
  }
  [[nodiscard]] const float* cos(int64_t position) const {
    return angles_.data() + position * heads_.head_dim / 2;
  }
  [[nodiscard]] const float* sin(int64_t position) const { return cos(context_ + position); }

  std::vector<float> on_processor(std::vector<float> rows, int64_t first) {
    const int64_t dim = heads_.head_dim, tokens = std::ssize(rows) / row_floats_;
    std::vector<float> out;
    for (int64_t t = 0; t < tokens; ++t) {
      float* row = rows.data() + t * row_floats_;
      scalar().rope({.x = row,
                     .tokens = 1,
                     .heads = heads_.heads + heads_.kv_heads,
                     .head_dim = dim,
                     .cos = cos(first + t),
                     .sin = sin(first + t)});
      const float* k = row + heads_.heads * dim;
      host_.store(scalar(), kLayer, first + t, k, k + heads_.kv_heads * dim);
    }
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t head = 0; head < heads_.heads; ++head)
        attend(rows.data() + t * row_floats_ + head * dim, head, first + t + 1, out);
    }
    return out;
  }

  void attend(const float* q, int64_t head, int64_t length, std::vector<float>& out) {
    const int64_t dim = heads_.head_dim, padded_dim = (dim + 15) / 16 * 16;
    std::vector<int8_t> q8(static_cast<size_t>(padded_dim + 16));
    float q_scale = 0;
    int32_t q_sum = 0;
    scalar().quantize({.x = q,
                       .x_stride = dim,
                       .tokens = 1,
                       .cols = dim,
                       .q = q8.data(),
                       .q_stride = dim,
                       .scale = &q_scale,
                       .sum = &q_sum});
    q_scale = 1.0f / q_scale;
    AlignedBuffer weights(kChunk * sizeof(float)), o(static_cast<size_t>(2 * padded_dim) * sizeof(float));
    float max[2] = {}, sum[2] = {};
    for (int64_t start = 0; start < length; start += kChunk) {
      const int part = start == 0 ? 0 : 1;
      const auto seen = static_cast<int32_t>(std::min(length - start, kChunk));
      const KvCache::Chunk kv = host_.chunk(kLayer, head / (heads_.heads / heads_.kv_heads), start);
      scalar().attention_chunk(
          {.q = q,
           .q8 = q8.data(),
           .q_scale = &q_scale,
           .q_sum = &q_sum,
           .q_stride = dim,
           .queries = 1,
           .lengths = &seen,
           .keys = kv.keys,
           .values = kv.values,
           .key_scale = kv.key_scale,
           .value_scale = kv.value_scale,
           .kv_type = DType::kI8,
           .head_dim = dim,
           .scale = kScale,
           .weights = weights.as<float>(),
           .out = {max + part, sum + part, o.as<float>() + part * padded_dim, padded_dim}});
      if (part == 0) continue;
      scalar().attention_merge({.total = {max, sum, o.as<float>(), padded_dim},
                                .part = {max + 1, sum + 1, o.as<float>() + padded_dim, padded_dim},
                                .rows = 1,
                                .head_dim = dim});
    }
    for (int64_t d = 0; d < dim; ++d) out.push_back(o.as<float>()[d] * (1.0f / sum[0]));
  }

  std::vector<float> on_gpu(const std::vector<float>& rows, int64_t first, int64_t tokens, bool segment) {
    const DeviceBuffer qkv = to_device(rows), angles = to_device(angles_);
    const int64_t out_row = heads_.heads * heads_.head_dim;
    const DeviceBuffer out = filled<float>(tokens * out_row);
    const DeviceBuffer partial =
        filled<float>(tokens * heads_.heads * chunks_ * (heads_.head_dim + 2), std::nanf(""));
    std::vector<DecodeRow> singles;
    for (int64_t t = 0; t < tokens; ++t)
      singles.push_back(
          {keys_.data(), values_.data(), static_cast<int32_t>(t), static_cast<int32_t>(first + t)});
    const DeviceBuffer device_singles = to_device(singles);
    I8AttentionArgs args = {.qkv = qkv.as<float>(),
                            .qkv_stride = row_floats_,
                            .tokens = tokens,
                            .rows = segment ? nullptr : device_singles.as<DecodeRow>(),
                            .keys = keys_.data(),
                            .values = values_.data(),
                            .first = first,
                            .heads = heads_,
                            .positions = positions_,
                            .layers = kLayers,
                            .layer = kLayer,
                            .cos = angles.as<float>(),
                            .sin = angles.as<float>() + context_ * heads_.head_dim / 2,
                            .scale = kScale,
                            .max_chunks = chunks_,
                            .partial = partial.as<float>(),
                            .out = out.as<float>(),
                            .out_stride = out_row,
                            .block_tokens = 0};
    run([&](Stream stream) { table().i8_attention(args, stream); });
    return to_host<float>(out);
  }

  Random random_{11};
  Heads heads_;
  int64_t context_, positions_, row_floats_, chunks_;
  KvCache host_;
  DeviceBuffer keys_, values_;
  std::vector<float> angles_;
};

TEST_F(I8Attention, PromptsAndNewTokensHaveTheScalarBits) {
  for (const Heads heads : {Heads{8, 2, 128}, Heads{3, 3, 40}, Heads{6, 2, 6}, Heads{20, 1, 64},
                            Heads{4, 4, 256}, Heads{5, 1, 90}}) {
    SCOPED_TRACE(std::to_string(heads.heads) + " heads of " + std::to_string(heads.head_dim));
    Comparison both({heads, 530});
    both.append(both.random_rows(7), 0, true);
    both.append(both.random_rows(1), 7, false);
    both.append(both.random_rows(246, 3), 8, true);  // up to 253
    for (int64_t position = 254; position < 259; ++position)
      both.append(both.random_rows(1), position, false);
    both.append(both.random_rows(254), 259, true);  // into the third chunk
    both.append(both.random_rows(1), 513, false);
  }
}

TEST_F(I8Attention, ExtremesAndRowsThatAreNotFinite) {
  const Heads heads{4, 1, 64};
  Comparison both({heads, 300});
  std::vector<float> same = both.random_rows(256);  // the largest sums: all +127 against all +127
  std::fill(same.begin(), same.end(), 1.0f);
  both.append(same, 0, true);
  both.append(std::vector<float>(static_cast<size_t>(6 * 64), 0.0f), 256, false);
  both.append(both.random_rows(3, 1e30f), 257, true);
  std::vector<float> broken = both.random_rows(1);
  broken[4 * 64 + 3] = std::numeric_limits<float>::infinity();  // of the key
  both.append(broken, 260, false);
  broken = both.random_rows(1);
  broken[5 * 64] = std::nanf("");  // of the value
  both.append(broken, 261, false);
}

TEST_F(I8Attention, ShiftsRoundLikeTheProcessors) {
  Comparison both({{8, 2, 72}, 300});
  both.append(both.random_rows(290), 0, true);
  both.shift(40, 290, 36);  // not by fours alone
  both.append(both.random_rows(1), 254, false);
  both.shift(13, 255, 9);
  both.append(both.random_rows(12), 246, true);
}

SessionOptions i8_on(const char* device, int64_t batch = 512) {
  return {.context = 400, .kv_type = DType::kI8, .batch = batch, .device = device};
}

std::vector<int32_t> some_ids(const Model& model, int32_t count) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back(i * 37 % static_cast<int32_t>(model.config().vocab_size));
  return ids;
}

/// Prompts, token by token, texts, many at once, the context shift.
TEST_F(I8Attention, ModelsHaveTheProcessorsBits) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<int32_t> ids = some_ids(*model, 330);
  Session cpu(model, i8_on("cpu")), whole(model, i8_on("cuda")), parts(model, i8_on("cuda", 33)),
      single(model, i8_on("cuda", 1));
  const std::vector<float> expected = cpu.append_all_logits(ids);
  EXPECT_EQ(whole.append_all_logits(ids), expected);
  EXPECT_EQ(parts.append_all_logits(ids), expected);
  EXPECT_EQ(single.append_all_logits(ids), expected);
  EXPECT_LT(whole.kv_bytes(),
            Session(model, {.context = 400, .kv_type = DType::kF16, .device = "cuda"}).kv_bytes());
  for (Session* session : {&cpu, &whole, &single}) session->shift(4, 30);
  const std::vector<int32_t> prompt{5, 9, 17};
  const GenerateOptions options{.max_tokens = 40, .ignore_stop_tokens = true};
  const std::vector<int32_t> text = generate(cpu, prompt, options).ids;
  EXPECT_EQ(generate(whole, prompt, options).ids, text);
  EXPECT_EQ(generate(single, prompt, options).ids, text);
}

TEST_F(I8Attention, SequencesTogetherGiveTheBitsOfEachAlone) {
  const auto model = Model::load(testing::bundled_model());
  for (const size_t count : {3, 40}) {
    Engine engine(model, i8_on("cuda"));
    Session alone(model, i8_on("cpu"));
    std::vector<Sequence> sequences;
    std::vector<std::vector<int32_t>> prompts;
    std::vector<Engine::Append> appends;
    for (size_t i = 0; i < count; ++i) {
      sequences.push_back(engine.sequence());
      prompts.push_back(some_ids(*model, static_cast<int32_t>(1 + i * 9)));
    }
    for (size_t i = 0; i < count; ++i) appends.push_back({&sequences[i], prompts[i]});
    engine.append(appends, Engine::Logits::kLast, [](size_t, int64_t, std::span<const float>) {});
    const std::array next{int32_t{11}};
    for (Engine::Append& append : appends) append.ids = next;
    engine.append(appends, Engine::Logits::kLast, [&](size_t i, int64_t, std::span<const float> logits) {
      alone.truncate(0);
      alone.append(prompts[i]);
      const auto expected = alone.append(next);
      EXPECT_TRUE(std::equal(logits.begin(), logits.end(), expected.begin())) << i << " of " << count;
    });
  }
}

/// What either side saves, either loads.
TEST_F(I8Attention, PromptCachesAreTheProcessorsOfAllTypes) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<int32_t> ids = some_ids(*model, 278), next{3};
  const testing::TemporaryFolder folder;
  for (const DType type : {DType::kF32, DType::kF16, DType::kI8}) {
    SCOPED_TRACE(to_string(type));
    // Token by token: prompts with an f16 cache are not the processor's bits.
    SessionOptions options{.context = 300, .kv_type = type, .batch = 1, .device = "cuda"};
    Session gpu(model, options), second(model, options);
    options.device = "cpu";
    options.context = 290;
    Session cpu(model, options), other(model, options);
    gpu.append(ids);
    cpu.append(ids);
    const auto from_gpu = folder.path() / "gpu", from_cpu = folder.path() / "cpu";
    gpu.save(from_gpu, ids);
    cpu.save(from_cpu, std::span(ids).first(270));
    EXPECT_EQ(other.load(from_gpu), ids);
    EXPECT_EQ(second.load(from_cpu), std::vector<int32_t>(ids.begin(), ids.begin() + 270));
    second.append(std::span(ids).subspan(270));
    const auto expected = cpu.append(next);
    for (Session* session : {&gpu, &second, &other}) {
      const auto found = session->append(next);
      EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin()));
    }
    EXPECT_THROW((void)Session(model, {.context = 100, .kv_type = type, .device = "cuda"}).load(from_gpu),
                 Error);
  }
}

}  // namespace
}  // namespace bitnet::cuda
