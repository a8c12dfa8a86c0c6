#include "bitnet/inference/sampler.h"

#include "bitnet/core/error.h"

#include <cmath>
#include <limits>
#include <map>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Everything off: draws from softmax(logits).
SamplerOptions plain() {
  SamplerOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  options.min_p = 0;
  return options;
}

std::map<int32_t, double> frequencies(const SamplerOptions& options, const std::vector<float>& logits,
                                      int draws = 20000) {
  Sampler sampler(options, static_cast<int64_t>(logits.size()));
  std::map<int32_t, double> counts;
  for (int i = 0; i < draws; ++i) counts[sampler.sample(logits)] += 1.0 / draws;
  return counts;
}

std::vector<float> logs(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

TEST(Sampler, GreedyTakesTheHighestAndTheLowestIdOnTies) {
  Sampler sampler(SamplerOptions::greedy(), 4);
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 3, 2}), 1);
}

TEST(Sampler, DrawsFollowTheDistribution) {
  const auto counts = frequencies(plain(), logs({0.5, 0.3, 0.15, 0.05}));
  // 20,000 draws: the standard deviation of a share is at most 0.0036; four of them.
  EXPECT_NEAR(counts.at(0), 0.5, 0.0145);
  EXPECT_NEAR(counts.at(1), 0.3, 0.0145);
  EXPECT_NEAR(counts.at(2), 0.15, 0.0145);
  EXPECT_NEAR(counts.at(3), 0.05, 0.0145);
}

TEST(Sampler, TemperatureSharpens) {
  SamplerOptions options = plain();
  options.temperature = 0.5f;  // p^2, normalized: 0.9 and 0.1
  const auto counts = frequencies(options, logs({0.75, 0.25}));
  EXPECT_NEAR(counts.at(0), 0.9, 0.0145);
}

TEST(Sampler, TopKTopPMinPAndTypicalKeepWhatTheyShould) {
  const auto logits = logs({0.4, 0.3, 0.2, 0.1});
  SamplerOptions options = plain();
  options.top_k = 2;
  EXPECT_EQ(frequencies(options, logits).size(), 2u);
  options = plain();
  options.top_p = 0.75f;  // 0.4 + 0.3 < 0.75 <= 0.4 + 0.3 + 0.2
  EXPECT_EQ(frequencies(options, logits).size(), 3u);
  options = plain();
  options.min_p = 0.6f;  // 0.6 * 0.4 = 0.24: keeps 0.4 and 0.3
  EXPECT_EQ(frequencies(options, logits).size(), 2u);
  options = plain();
  options.typical_p = 0.25f;
  // Entropy 1.28 nats; surprises 0.92, 1.20, 1.61, 2.30: the second is the most typical, and 0.3 >= 0.25.
  const auto counts = frequencies(options, logits);
  ASSERT_EQ(counts.size(), 1u);
  EXPECT_EQ(counts.begin()->first, 1);
}

TEST(Sampler, PenaltiesActOnTheWindow) {
  SamplerOptions options = SamplerOptions::greedy();
  options.repetition_penalty = 2;
  const std::vector<float> logits{3, 2, -1};
  Sampler sampler(options, 3);
  EXPECT_EQ(sampler.sample(logits), 0);
  sampler.accept(0);  // 3 / 2 < 2
  EXPECT_EQ(sampler.sample(logits), 1);

  options = SamplerOptions::greedy();
  options.presence_penalty = 0.4f;
  options.frequency_penalty = 0.35f;
  Sampler counted(options, 3);
  counted.accept(0);  // 3 - 0.75
  EXPECT_EQ(counted.sample(logits), 0);
  counted.accept(0);  // 3 - 1.1
  EXPECT_EQ(counted.sample(logits), 1);

  options = SamplerOptions::greedy();
  options.presence_penalty = 5;
  options.penalty_window = 1;
  Sampler forgetful(options, 3);
  forgetful.accept(0);
  forgetful.accept(2);
  EXPECT_EQ(forgetful.sample(logits), 0);
}

TEST(Sampler, ANegativeLogitIsPushedFurtherDownByTheRepetitionPenalty) {
  SamplerOptions options = SamplerOptions::greedy();
  options.repetition_penalty = 2;
  Sampler sampler(options, 2);
  sampler.accept(0);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1.0f, -1.5f}), 1);
}

TEST(Sampler, LogitBiasForbidsAndFavours) {
  SamplerOptions options = SamplerOptions::greedy();
  options.logit_bias = {{0, -kInfinity}, {2, 10}};
  Sampler sampler(options, 3);
  EXPECT_EQ(sampler.sample(std::vector<float>{5, 4, 0}), 2);
}

TEST(Sampler, TheSeedDecides) {
  const std::vector<float> logits(100, 0.0f);
  const auto draw = [&](uint64_t seed) {
    SamplerOptions options = plain();
    options.seed = seed;
    Sampler sampler(options, 100);
    std::vector<int32_t> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.sample(logits));
    return ids;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

TEST(Sampler, NoFiniteLogitIsAnErrorAndNanIsNeverChosen) {
  Sampler sampler(SamplerOptions::greedy(), 2);
  EXPECT_THROW((void)sampler.sample(std::vector<float>{NAN, -kInfinity}), Error);
  EXPECT_EQ(sampler.sample(std::vector<float>{NAN, -100}), 1);
  EXPECT_THROW((void)sampler.sample(std::vector<float>{1}), Error);
}

TEST(SamplerOptions, NonsenseIsRefusedByName) {
  const auto message = [](auto change) {
    SamplerOptions options;
    change(options);
    try {
      options.validate();
    } catch (const Error& error) {
      return error.message();
    }
    return std::string();
  };
  EXPECT_NE(message([](auto& o) { o.temperature = NAN; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.top_p = 0; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.top_k = -1; }).find("top_k"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.min_p = 2; }).find("min_p"), std::string::npos);
  EXPECT_NE(message([](auto& o) { o.repetition_penalty = 0; }).find("repetition"), std::string::npos);
  EXPECT_EQ(message([](auto&) {}), "");
  SamplerOptions options;
  options.logit_bias = {{7, 1.0f}};
  EXPECT_THROW(Sampler(options, 7), Error);
}

}  // namespace
}  // namespace bitnet
