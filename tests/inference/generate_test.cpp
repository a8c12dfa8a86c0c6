#include "bitnet/inference/generate.h"

#include "bitnet/core/error.h"
#include "fixtures.h"

#include <gtest/gtest.h>

namespace bitnet {
namespace {

class GenerateTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(testing::bundled_model()); }
  static void TearDownTestSuite() { model_.reset(); }

  static std::vector<int32_t> prompt() {
    return model_->require_tokenizer().encode("Once upon a time there was");
  }
  static GenerateOptions greedy(int64_t tokens) {
    GenerateOptions options;
    options.sampler = SamplerOptions::greedy();
    options.max_tokens = tokens;
    return options;
  }
  static std::shared_ptr<const Model> model_;
};
std::shared_ptr<const Model> GenerateTest::model_;

TEST_F(GenerateTest, StreamedTextIsTheResultsText) {
  Session session(model_);
  std::string streamed;
  std::vector<int32_t> tokens;
  const GenerateResult result = generate(session, prompt(), greedy(20), [&](const GenerateEvent& event) {
    streamed += event.text;
    if (tokens.size() < 20) tokens.push_back(event.token);
    return true;
  });
  EXPECT_EQ(streamed, result.text);
  EXPECT_EQ(tokens, result.ids);
  EXPECT_EQ(result.stop_reason, StopReason::kMaxTokens);
  EXPECT_EQ(result.text.substr(0, 18), " a great deal of t");
  EXPECT_GT(result.decode_tokens_per_second(), 0);
}

TEST_F(GenerateTest, AStopStringEndsTheTextBeforeItEvenAcrossTokens) {
  Session session(model_);
  GenerateOptions options = greedy(40);
  options.stop_strings = {"eal of ta"};  // " deal", " of", " talk"
  std::string streamed;
  const GenerateResult result = generate(session, prompt(), options, [&](const GenerateEvent& event) {
    streamed += event.text;
    return true;
  });
  EXPECT_EQ(result.stop_reason, StopReason::kStopString);
  EXPECT_EQ(result.text, " a great d");
  EXPECT_EQ(streamed, result.text);
}

TEST_F(GenerateTest, AStopTokenIsNotPartOfTheResult) {
  Session session(model_);
  GenerateOptions options = greedy(40);
  options.stop_tokens = {285};  // " of"
  const GenerateResult result = generate(session, prompt(), options);
  EXPECT_EQ(result.stop_reason, StopReason::kStopToken);
  EXPECT_EQ(result.ids, (std::vector<int32_t>{263, 634, 2050}));
}

TEST_F(GenerateTest, TheCallbackAndTheFlagCancel) {
  Session session(model_);
  int calls = 0;
  GenerateResult result =
      generate(session, prompt(), greedy(40), [&](const GenerateEvent&) { return ++calls < 3; });
  EXPECT_EQ(result.stop_reason, StopReason::kCancelled);
  EXPECT_EQ(result.ids.size(), 3u);
  session.truncate(0);
  const std::atomic<bool> cancel{true};
  result = generate(session, prompt(), greedy(40), {}, &cancel);
  EXPECT_EQ(result.stop_reason, StopReason::kCancelled);
  EXPECT_TRUE(result.ids.empty());
}

TEST_F(GenerateTest, AFullContextStopsOrShifts) {
  Session session(model_, {.context = 32});
  GenerateResult result = generate(session, prompt(), greedy(100));
  EXPECT_EQ(result.stop_reason, StopReason::kContext);
  EXPECT_EQ(session.position(), 32);
  session.truncate(0);
  GenerateOptions options = greedy(100);
  options.context_shift = true;
  result = generate(session, prompt(), options);
  EXPECT_EQ(result.stop_reason, StopReason::kMaxTokens);
  EXPECT_EQ(result.ids.size(), 100u);
}

TEST_F(GenerateTest, APromptBeyondTheContextIsAClearError) {
  Session session(model_, {.context = 4});
  try {
    (void)generate(session, prompt(), greedy(1));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfRange);
    EXPECT_FALSE(error.hint().empty());
  }
}

TEST_F(GenerateTest, TheSameSeedGivesTheSameTextWhateverTheThreads) {
  GenerateOptions options;
  options.max_tokens = 40;
  options.sampler.seed = 42;
  Session one(model_, {.threads = 1}), three(model_, {.threads = 3});
  const GenerateResult a = generate(one, prompt(), options), b = generate(three, prompt(), options);
  EXPECT_EQ(a.ids, b.ids);
  one.truncate(0);
  options.sampler.seed = 43;
  EXPECT_NE(generate(one, prompt(), options).ids, a.ids);
}

TEST_F(GenerateTest, WithoutATokenizerIdsStillComeAndStopStringsAreRefused) {
  Session session(Model::load(testing::data_folder() / "reference/bitnet-packed"));
  GenerateOptions options = greedy(5);
  options.ignore_stop_tokens = true;
  const GenerateResult result = generate(session, std::vector<int32_t>{1, 2, 3}, options);
  EXPECT_EQ(result.ids.size(), 5u);
  EXPECT_EQ(result.text, "");
  options.stop_strings = {"x"};
  EXPECT_THROW((void)generate(session, std::vector<int32_t>{1}, options), Error);
}

TEST_F(GenerateTest, ZeroTokensGiveNone) {
  Session session(model_);
  EXPECT_TRUE(generate(session, prompt(), greedy(0)).ids.empty());
}

}  // namespace
}  // namespace bitnet
