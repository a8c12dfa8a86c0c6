#include "bitnet/core/error.h"
#include "bitnet/inference/generate.h"
#include "fixtures.h"

#include <map>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

class GenerateAllTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(testing::bundled_model()); }
  static void TearDownTestSuite() { model_.reset(); }

  static std::vector<std::vector<int32_t>> prompts() {
    std::vector<std::vector<int32_t>> ids;
    for (const char* text :
         {"Once upon a time there was", "The captain looked", "It was", "“Why,” said she, “the"})
      ids.push_back(model_->require_tokenizer().encode(text));
    return ids;
  }
  static PromptSource source(const std::vector<std::vector<int32_t>>& prompts) {
    return [&prompts, next = size_t{0}]() mutable -> std::optional<std::vector<int32_t>> {
      if (next == prompts.size()) return std::nullopt;
      return prompts[next++];
    };
  }
  static std::map<int64_t, GenerateResult> all(const std::vector<std::vector<int32_t>>& prompts,
                                               const GenerateOptions& options, int64_t parallel,
                                               int64_t context = 0) {
    Engine engine(model_, {.threads = 2, .context = context});
    std::map<int64_t, GenerateResult> results;
    generate_all(engine, options, parallel, source(prompts),
                 [&](int64_t index, GenerateResult result) { results[index] = std::move(result); });
    return results;
  }
  static void expect_each_alone(const GenerateOptions& options, int64_t parallel, int64_t context = 0) {
    const auto texts = prompts();
    const auto results = all(texts, options, parallel, context);
    ASSERT_EQ(results.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      Session session(model_, {.threads = 2, .context = context});
      const GenerateResult alone = generate(session, texts[i], options);
      const GenerateResult& result = results.at(static_cast<int64_t>(i));
      EXPECT_EQ(result.ids, alone.ids) << i;
      EXPECT_EQ(result.text, alone.text) << i;
      EXPECT_EQ(result.stop_reason, alone.stop_reason) << i;
      EXPECT_EQ(result.prompt_tokens, alone.prompt_tokens) << i;
    }
  }

  static std::shared_ptr<const Model> model_;
};
std::shared_ptr<const Model> GenerateAllTest::model_;

TEST_F(GenerateAllTest, GivesTheTextOfEachPromptAlone) {
  for (const int64_t parallel : {1, 3, 8}) expect_each_alone({.max_tokens = 24}, parallel);
}

TEST_F(GenerateAllTest, EndsTextsAtStopStringsAndAtTheContextOneByOne) {
  GenerateOptions options{.max_tokens = -1, .stop_strings = {"the"}};
  expect_each_alone(options, 3, 20);
}

TEST_F(GenerateAllTest, SamplesFromAllLogitsAndShiftsTheContext) {
  GenerateOptions options{.max_tokens = 30, .context_shift = true};
  options.sampler.top_k = 0;
  options.sampler.repetition_penalty = 1.2f;
  expect_each_alone(options, 2, 24);
}

TEST_F(GenerateAllTest, NoTokensOrNoPromptsAreFine) {
  expect_each_alone({.max_tokens = 0}, 2);
  EXPECT_TRUE(all({}, {}, 2).empty());
}

TEST_F(GenerateAllTest, CancellationLeavesNoPartialResults) {
  Engine engine(model_);
  const auto texts = prompts();
  const std::atomic<bool> cancelled{true};
  generate_all(
      engine, {}, 2, source(texts), [](int64_t, const GenerateResult&) { FAIL(); }, &cancelled);
}

TEST_F(GenerateAllTest, RefusesPromptsThatDoNotFitAndNoParallelism) {
  EXPECT_THROW(all(prompts(), {}, 2, 3), Error);
  EXPECT_THROW(all(prompts(), {}, 0), Error);
}

}  // namespace
}  // namespace bitnet
