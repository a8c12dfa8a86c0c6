// Whole models: the GPU gives the processor's bits. (A float sum of the norms in another order could change a
// logit once in some 10^8 rows; these models run some 10^5.)

#include "bitnet/inference/engine.h"
#include "bitnet/inference/generate.h"
#include "cuda_test.h"
#include "inference/fixtures.h"

#include <array>
#include <cmath>
#include <fstream>

#include <nlohmann/json.hpp>

namespace bitnet::cuda {
namespace {

constexpr int64_t kContext = 400;

SessionOptions on(const char* device, int64_t batch = 512) {
  return {.context = kContext, .batch = batch, .device = device};
}

::testing::AssertionResult same_bits(std::span<const float> found, std::span<const float> expected) {
  if (found.size() != expected.size()) return ::testing::AssertionFailure() << "sizes differ";
  size_t different = 0;
  double largest = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected[i]) continue;
    ++different;
    largest = std::max(largest, std::abs(double{found[i]} - expected[i]));
  }
  if (different == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << different << " of " << found.size() << " differ, by up to " << largest;
}

std::vector<int32_t> greedy(Session& session, std::span<const int32_t> prompt, int64_t tokens) {
  GenerateOptions options;
  options.sampler = SamplerOptions::greedy();
  options.max_tokens = tokens;
  options.ignore_stop_tokens = true;
  return generate(session, prompt, options).ids;
}

nlohmann::json storyteller_prompts() {
  std::ifstream file(testing::data_folder() / "storyteller/expected.json");
  return nlohmann::json::parse(file)["prompts"];
}

class GpuModel : public CudaTest {};

TEST_F(GpuModel, ReferenceSetsGiveTheProcessorsLogitsAndTokens) {
  for (const char* name : {"bitnet-online", "bitnet-packed", "llama-packed"}) {
    SCOPED_TRACE(name);
    const auto folder = testing::data_folder() / "reference" / name;
    const testing::Expected expected = testing::read_expected(folder);
    const auto model = Model::load(folder);
    const auto vocab = static_cast<size_t>(model->config().vocab_size);
    Session cpu(model, {.context = 64}), gpu(model, {.context = 64, .device = "cuda"});
    const std::vector<float> logits = cpu.append_all_logits(expected.input_ids);
    EXPECT_TRUE(same_bits(gpu.append_all_logits(expected.input_ids), logits));
    // Token by token: the fused decode kernels.
    gpu.truncate(0);
    for (size_t i = 0; i < expected.input_ids.size(); ++i) {
      EXPECT_TRUE(same_bits(gpu.append(std::span(expected.input_ids).subspan(i, 1)),
                            std::span(logits).subspan(i * vocab, vocab)))
          << "token " << i;
    }
    cpu.truncate(0);
    gpu.truncate(0);
    EXPECT_EQ(greedy(gpu, expected.input_ids, 16), greedy(cpu, expected.input_ids, 16));
  }
}

TEST_F(GpuModel, StorytellerTellsTheSameStories) {
  const auto model = Model::load(testing::bundled_model());
  Session cpu(model, on("cpu")), gpu(model, on("cuda"));
  for (const auto& prompt : storyteller_prompts()) {
    const auto ids = prompt["ids"].get<std::vector<int32_t>>();
    cpu.truncate(0);
    gpu.truncate(0);
    EXPECT_TRUE(same_bits(gpu.append_all_logits(ids), cpu.append_all_logits(ids)));
    cpu.truncate(0);
    gpu.truncate(0);
    EXPECT_EQ(greedy(gpu, ids, 48), greedy(cpu, ids, 48));
  }
}

/// Decoding together gives the bits of decoding alone, and what another sequence does changes nothing.
TEST_F(GpuModel, SequencesDecodedTogetherGiveTheirOwnBits) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<std::vector<int32_t>> prompts{{5, 6, 7, 8, 9}, {100}, {7, 7, 7, 1, 2, 3, 4, 1, 2}};
  std::vector<std::vector<float>> alone, together(prompts.size());
  for (const auto& prompt : prompts) {
    Session session(model, on("cuda"));
    session.append(prompt);
    const auto logits = session.append(std::array{int32_t{11}});
    alone.emplace_back(logits.begin(), logits.end());
  }
  Engine engine(model, on("cuda"));
  std::vector<Sequence> sequences;
  std::vector<Engine::Append> appends;
  for (size_t i = 0; i < prompts.size(); ++i) sequences.push_back(engine.sequence());
  for (size_t i = 0; i < prompts.size(); ++i) appends.push_back({&sequences[i], prompts[i]});
  engine.append(appends, Engine::Logits::kLast, [](size_t, int64_t, std::span<const float>) {});
  const std::array next{int32_t{11}};
  for (Engine::Append& append : appends) append.ids = next;
  engine.append(appends, Engine::Logits::kLast, [&](size_t i, int64_t, std::span<const float> logits) {
    together[i].assign(logits.begin(), logits.end());
  });
  EXPECT_EQ(together, alone);
}

/// As many as take the products, the attention and the head of large batches; their highest logits are those
/// of a sequence alone.
TEST_F(GpuModel, ManySequencesDecodedTogetherGiveTheirOwnBits) {
  const auto model = Model::load(testing::bundled_model());
  const auto vocab = static_cast<int32_t>(model->config().vocab_size);
  for (const size_t count : {17, 40, 70}) {
    Engine engine(model, on("cuda"));
    Session alone(model, on("cuda"));
    std::vector<Sequence> sequences;
    std::vector<std::vector<int32_t>> prompts;
    std::vector<Engine::Append> appends;
    for (size_t i = 0; i < count; ++i) {
      sequences.push_back(engine.sequence());
      prompts.emplace_back();
      for (size_t t = 0; t < 1 + i * 3; ++t)
        prompts[i].push_back(static_cast<int32_t>(i * 31 + t * 7) % vocab);
    }
    for (size_t i = 0; i < count; ++i) appends.push_back({&sequences[i], prompts[i]});
    engine.append(appends, Engine::Logits::kLast, [](size_t, int64_t, std::span<const float>) {});
    const std::array next{int32_t{11}};
    for (Engine::Append& append : appends) append.ids = next;
    std::vector<std::vector<Candidate>> found(count);
    const std::vector<TopQuery> queries(count, {5, {}});
    engine.append_top(appends, queries, Engine::Logits::kLast,
                      [&](size_t i, int64_t, std::span<const Candidate> candidates) {
                        found[i].assign(candidates.begin(), candidates.end());
                      });
    for (size_t i = 0; i < count; ++i) {
      SCOPED_TRACE(std::to_string(i) + " of " + std::to_string(count));
      alone.truncate(0);
      alone.append(prompts[i]);
      const auto logits = alone.append(next);
      ASSERT_GE(found[i].size(), 5U);
      float highest = found[i][0].logit;
      for (const Candidate& candidate : found[i]) {
        EXPECT_EQ(candidate.logit, logits[static_cast<size_t>(candidate.id)]);
        highest = std::max(highest, candidate.logit);
      }
      EXPECT_EQ(highest, *std::max_element(logits.begin(), logits.end()));
    }
  }
}

std::vector<int32_t> long_prompt(const Model& model) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 330; ++i) ids.push_back(i * 37 % static_cast<int32_t>(model.config().vocab_size));
  return ids;
}

TEST_F(GpuModel, BatchesOfThePromptAndTheContextShiftChangeNoBit) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<int32_t> ids = long_prompt(*model);
  Session cpu(model, on("cpu")), whole(model, on("cuda")), parts(model, on("cuda", 33));
  const std::vector<float> expected = cpu.append_all_logits(ids);
  EXPECT_TRUE(same_bits(whole.append_all_logits(ids), expected));
  EXPECT_TRUE(same_bits(parts.append_all_logits(ids), expected));
  cpu.shift(4, 30);
  whole.shift(4, 30);
  for (int32_t i = 0; i < 5; ++i) {
    const std::array next{i};
    EXPECT_TRUE(same_bits(whole.append(next), cpu.append(next))) << "token " << i;
  }
}

/// With an f16 cache, prompts are attended on the tensor cores: near the processor's logits, and the same
/// bits in whatever batches of several tokens.
TEST_F(GpuModel, PromptsWithAnF16CacheComeClose) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<int32_t> ids = long_prompt(*model);
  SessionOptions options = on("cpu");
  options.kv_type = DType::kF16;
  Session cpu(model, options);
  options.device = "cuda";
  Session whole(model, options);
  options.batch = 33;
  Session parts(model, options);
  const std::vector<float> expected = cpu.append_all_logits(ids), found = whole.append_all_logits(ids);
  EXPECT_TRUE(same_bits(parts.append_all_logits(ids), found));
  double difference = 0, size = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    difference += (double{found[i]} - expected[i]) * (double{found[i]} - expected[i]);
    size += double{expected[i]} * expected[i];
  }
  EXPECT_LT(std::sqrt(difference / size), 0.01);
  RecordProperty("relative_difference", std::to_string(std::sqrt(difference / size)));
  for (const auto& prompt : storyteller_prompts()) {
    const auto prompt_ids = prompt["ids"].get<std::vector<int32_t>>();
    cpu.truncate(0);
    whole.truncate(0);
    EXPECT_EQ(greedy(whole, prompt_ids, 48), greedy(cpu, prompt_ids, 48));
  }
}

/// A first single token behind a long prompt, and behind a shift of a short one.
TEST_F(GpuModel, OneTokenAfterAPrompt) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<int32_t> ids = long_prompt(*model);
  for (const size_t count : {100, 255, 256, 300, 330}) {
    for (const int64_t shift : {0, 30}) {
      Session cpu(model, on("cpu")), gpu(model, on("cuda"));
      cpu.append(std::span(ids).first(count));
      gpu.append(std::span(ids).first(count));
      cpu.shift(4, shift);
      gpu.shift(4, shift);
      const std::array next{int32_t{9}};
      EXPECT_TRUE(same_bits(gpu.append(next), cpu.append(next))) << count << " tokens, shifted by " << shift;
    }
  }
}

/// Long enough that a warp of the decode kernels attends several chunks.
TEST_F(GpuModel, DecodingOverSeveralChunksHasTheProcessorsBits) {
  const auto model = Model::load(testing::bundled_model());
  for (const DType kv_type : {DType::kF32, DType::kF16}) {
    SessionOptions options = on("cpu");
    options.kv_type = kv_type;
    Session cpu(model, options);
    options.device = "cuda";
    options.batch = 1;  // token by token: no tensor cores
    Session gpu(model, options);
    const std::vector<int32_t> ids = long_prompt(*model);
    EXPECT_TRUE(same_bits(gpu.append_all_logits(ids), cpu.append_all_logits(ids)));
  }
}

}  // namespace
}  // namespace bitnet::cuda
