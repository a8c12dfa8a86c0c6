// The head's candidates and guessed tokens against the plain way: same tokens, bit for bit.

#include "bitnet/core/error.h"
#include "bitnet/inference/generate.h"
#include "bitnet/model/checkpoint.h"
#include "bitnet/model/convert.h"
#include "fixtures.h"
#include "inference/prompt_lookup.h"
#include "temporary_folder.h"

#include <algorithm>
#include <limits>
#include <map>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

class Candidates : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    bf16_ = Model::load(testing::bundled_model());
    const testing::TemporaryFolder work;
    ConvertOptions options;
    options.embedding_type = DType::kQ6_K;
    (void)convert(Checkpoint::open(testing::bundled_model()), work / "q6_k.gguf", options);
    q6_k_ = Model::load(work / "q6_k.gguf");
  }
  static void TearDownTestSuite() {
    bf16_.reset();
    q6_k_.reset();
  }
  static std::vector<std::shared_ptr<const Model>> models() { return {bf16_, q6_k_}; }

  static std::vector<int32_t> encode(const char* text) { return bf16_->require_tokenizer().encode(text); }

  static std::shared_ptr<const Model> bf16_, q6_k_;
};
std::shared_ptr<const Model> Candidates::bf16_;
std::shared_ptr<const Model> Candidates::q6_k_;

constexpr const char* kPrompts[] = {"Once upon a time there was", "The captain looked",
                                    "One day, Tom and Mia"};

TEST_F(Candidates, AreTheHighestLogitsAndThoseAskedFor) {
  for (const auto& model : models()) {
    Session top(model, {.threads = 2}), all(model, {.threads = 1});
    for (const char* prompt : kPrompts) {
      for (const int64_t k : {1, 40, 4096}) {
        const std::vector<int32_t> ids = encode(prompt), always{4095, 3, 3, 100};
        const auto found = top.append_top(ids, {k, always});
        const auto logits = all.append(ids);
        std::map<int32_t, float> by_id;
        for (const Candidate& candidate : found) {
          EXPECT_EQ(candidate.logit, logits[static_cast<size_t>(candidate.id)]);
          by_id[candidate.id] = candidate.logit;
        }
        EXPECT_EQ(by_id.size(), found.size());
        for (const int32_t id : always) EXPECT_TRUE(by_id.contains(id));
        std::vector<int32_t> order;
        for (int32_t id = 0; id < 4096; ++id) {
          if (std::find(always.begin(), always.end(), id) == always.end()) order.push_back(id);
        }
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
          return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
        });
        order.resize(std::min(order.size(), static_cast<size_t>(k)));
        for (const int32_t id : order) EXPECT_TRUE(by_id.contains(id)) << id;
        if (k <= 40) {
          EXPECT_LT(found.size(), 600u);
        }
      }
    }
  }
}

TEST_F(Candidates, OfSeveralTokensAreThoseOfEach) {
  const auto ids = encode("Once upon a time there was a little girl who lived in a house by the sea. She");
  Session together(q6_k_, {.threads = 1}), alone(q6_k_, {.threads = 1});
  size_t seen = 0;
  together.append_top_each(ids, {5, {}}, [&](int64_t i, std::span<const Candidate> found) {
    const auto expected = alone.append_top(std::span(ids).subspan(static_cast<size_t>(i), 1), {5, {}});
    ASSERT_EQ(found.size(), expected.size());
    for (size_t j = 0; j < found.size(); ++j) {
      EXPECT_EQ(found[j].id, expected[j].id);
      EXPECT_EQ(found[j].logit, expected[j].logit);
    }
    ++seen;
  });
  EXPECT_EQ(seen, ids.size());
}

TEST_F(Candidates, MistakesAreClearErrors) {
  Session session(bf16_);
  const std::vector<int32_t> ids{1, 2}, outside{4096};
  EXPECT_THROW((void)session.append_top(ids, {0, {}}), Error);
  EXPECT_THROW((void)session.append_top(ids, {1, outside}), Error);
  EXPECT_EQ(session.position(), 0);
}

std::vector<SamplerOptions> chains() {
  std::vector<SamplerOptions> chains;
  chains.push_back(SamplerOptions::greedy());
  SamplerOptions options = SamplerOptions::greedy();
  options.repetition_penalty = 1.3f;
  options.penalty_window = -1;
  chains.push_back(options);
  options = {};
  options.seed = 7;
  chains.push_back(options);
  options.temperature = 1.5f;
  options.frequency_penalty = -0.3f;  // raises
  options.presence_penalty = 0.5f;
  options.logit_bias = {{100, 6.0f}, {200, -kInfinity}, {13, -2.0f}};
  chains.push_back(options);
  options.top_k = 1000;
  options.typical_p = 0.9f;
  chains.push_back(options);
  options.top_k = 0;
  chains.push_back(options);
  return chains;
}

TEST_F(Candidates, AndGuessesDoNotChangeTheText) {
  size_t round = 0;
  int64_t accepted = 0;
  for (const auto& model : models()) {
    for (const SamplerOptions& chain : chains()) {
      const auto prompt = encode(kPrompts[round++ % std::size(kPrompts)]);
      GenerateOptions options;
      options.sampler = chain;
      options.max_tokens = 20;
      options.ignore_stop_tokens = true;
      Session exact(model, {.threads = 1, .exact_head = true}), session(model, {.threads = 1});
      const GenerateResult expected = generate(exact, prompt, options);
      for (const int64_t draft : {0, 6}) {
        options.draft_tokens = draft;
        session.truncate(0);
        const GenerateResult result = generate(session, prompt, options);
        EXPECT_EQ(result.ids, expected.ids);
        EXPECT_EQ(result.text, expected.text);
        EXPECT_EQ(session.position(), exact.position());
        EXPECT_LE(result.accepted_tokens, result.drafted_tokens);
        EXPECT_TRUE(draft > 0 || result.drafted_tokens == 0);
        accepted += result.accepted_tokens;
      }
    }
  }
  EXPECT_GT(accepted, 0);
}

TEST_F(Candidates, GuessesKeepStopsAndShiftsInPlace) {
  GenerateOptions options;
  options.sampler = SamplerOptions::greedy();
  options.max_tokens = 80;
  options.ignore_stop_tokens = true;
  for (const bool shift : {true, false}) {
    options.context_shift = shift;
    Session plain(bf16_, {.threads = 1, .context = 48}), guessing(bf16_, {.threads = 1, .context = 48});
    options.draft_tokens = 0;
    const GenerateResult expected = generate(plain, encode(kPrompts[0]), options);
    options.draft_tokens = 8;
    const GenerateResult result = generate(guessing, encode(kPrompts[0]), options);
    EXPECT_EQ(result.ids, expected.ids);
    EXPECT_EQ(result.stop_reason, expected.stop_reason);
    EXPECT_EQ(guessing.position(), plain.position());
    EXPECT_GT(result.accepted_tokens, 0);
  }
  options.draft_ngram = 0;
  Session session(bf16_);
  EXPECT_THROW((void)generate(session, encode(kPrompts[0]), options), Error);
}

TEST(PromptLookup, PausesWhileGuessesFail) {
  PromptLookup lookup(4, 2);
  for (const int32_t token : {1, 2, 3, 1, 2}) lookup.push(token);
  EXPECT_EQ(lookup.guess(9), (std::vector<int32_t>{3, 1, 2}));
  lookup.report(3, 0);
  EXPECT_EQ(lookup.guess(9), (std::vector<int32_t>{3}));
  lookup.report(1, 0);
  EXPECT_TRUE(lookup.guess(9).empty());
  lookup.push(3);
  EXPECT_TRUE(lookup.guess(9).empty());
  lookup.push(1);
  EXPECT_EQ(lookup.guess(9), (std::vector<int32_t>{2}));
  lookup.report(1, 0);  // a third: twice as long
  for (const int32_t token : {2, 3, 1}) {
    EXPECT_TRUE(lookup.guess(9).empty());
    lookup.push(token);
  }
  lookup.push(2);
  lookup.report(1, 1);
  EXPECT_EQ(lookup.guess(9), (std::vector<int32_t>{3, 1}));
  lookup.report(2, 0);
  EXPECT_FALSE(lookup.guess(9).empty());
}

}  // namespace
}  // namespace bitnet
