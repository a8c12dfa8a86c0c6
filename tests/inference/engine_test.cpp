#include "bitnet/inference/engine.h"

#include "bitnet/core/error.h"
#include "fixtures.h"

#include <array>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

using Row = std::vector<float>;

class EngineTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = Model::load(testing::data_folder() / "reference/bitnet-packed"); }
  static void TearDownTestSuite() { model_.reset(); }

  static std::vector<int32_t> ids(size_t count, int32_t step) {
    std::vector<int32_t> result(count);
    for (size_t i = 0; i < count; ++i) result[i] = static_cast<int32_t>(i + 1) * step % 320;
    return result;
  }
  static std::vector<Row> alone(std::span<const int32_t> ids) {
    Session session(model_);
    std::vector<Row> rows;
    session.append_each(ids, [&](int64_t, std::span<const float> logits) {
      rows.emplace_back(logits.begin(), logits.end());
    });
    return rows;
  }

  static std::shared_ptr<const Model> model_;
};
std::shared_ptr<const Model> EngineTest::model_;

/// Until `visit` ends it, or the context of 30 tokens.
TEST_F(EngineTest, DecodingGoesOnWithWhatTheSamplersDraw) {
  const std::vector<int32_t> prompt = ids(4, 7);
  for (const int32_t top_k : {0, 20}) {
    const SamplerOptions options{.top_k = top_k, .repetition_penalty = 1.3f, .seed = 3};
    for (const size_t steps : {6, 100}) {
      Session session(model_, {.context = 30});
      Sampler alone(options, model_->config().vocab_size);
      std::vector<int32_t> expected{static_cast<int32_t>(alone.sample(session.append(prompt)))};
      while (expected.size() <= steps && session.position() < 30) {
        alone.accept(expected.back());
        expected.push_back(alone.sample(session.append({&expected.back(), 1})));
      }
      Engine engine(model_, {.context = 30});
      Sequence sequence = engine.sequence(), other = engine.sequence();
      Sampler sampler(options, model_->config().vocab_size), second({.seed = 8}, model_->config().vocab_size);
      std::vector<int32_t> found;
      engine.append(
          std::array{Engine::Append{&sequence, prompt}}, Engine::Logits::kLast,
          [&](size_t, int64_t, std::span<const float> logits) { found.push_back(sampler.sample(logits)); });
      sampler.accept(found.front());
      engine.decode(
          std::array{Engine::Decode{&sequence, &sampler, found.front()}, Engine::Decode{&other, &second, 9}},
          [&](std::span<const int32_t> tokens) {
            EXPECT_EQ(tokens.size(), 2U);
            found.push_back(tokens[0]);
            return found.size() <= steps;
          });
      EXPECT_EQ(found, expected);
      EXPECT_EQ(sequence.position(), std::ssize(prompt) + std::ssize(found) - 1);
    }
  }
}

TEST_F(EngineTest, SequencesTogetherGiveTheBitsOfEachAlone) {
  const std::array<std::vector<int32_t>, 3> texts = {ids(23, 7), ids(1, 11), ids(40, 13)};
  for (const int64_t batch : {5, 23, 512}) {
    Engine engine(model_, {.batch = batch});
    std::vector<Sequence> sequences;
    std::vector<Engine::Append> appends;
    for (size_t i = 0; i < texts.size(); ++i) sequences.push_back(engine.sequence());
    for (size_t i = 0; i < texts.size(); ++i) appends.push_back({&sequences[i], texts[i]});
    std::array<std::vector<Row>, 3> rows;
    engine.append(appends, Engine::Logits::kEvery,
                  [&](size_t i, int64_t token, std::span<const float> logits) {
                    EXPECT_EQ(token, std::ssize(rows[i]));
                    rows[i].emplace_back(logits.begin(), logits.end());
                  });
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(rows[i], alone(texts[i])) << "sequence " << i << ", batch " << batch;
      EXPECT_EQ(sequences[i].position(), std::ssize(texts[i]));
    }
  }
}

TEST_F(EngineTest, DecodesSequencesOfDifferentLengthsTogether) {
  const std::array<std::vector<int32_t>, 2> texts = {ids(9, 3), ids(17, 5)};
  Engine engine(model_);
  Sequence first = engine.sequence(), second = engine.sequence();
  engine.append(std::array{Engine::Append{&first, std::span(texts[0]).first(8)}}, Engine::Logits::kLast,
                [](size_t, int64_t, std::span<const float>) {});
  engine.append(std::array{Engine::Append{&second, std::span(texts[1]).first(16)}}, Engine::Logits::kLast,
                [](size_t, int64_t, std::span<const float>) {});
  std::map<size_t, Row> rows;
  const std::array step{Engine::Append{&second, std::span(texts[1]).last(1)},
                        Engine::Append{&first, std::span(texts[0]).last(1)}};
  engine.append(step, Engine::Logits::kLast, [&](size_t i, int64_t token, std::span<const float> logits) {
    EXPECT_EQ(token, 0);
    rows[i] = Row(logits.begin(), logits.end());
  });
  EXPECT_EQ(rows.at(0), alone(texts[1]).back());
  EXPECT_EQ(rows.at(1), alone(texts[0]).back());
}

TEST_F(EngineTest, OneBadAppendLeavesAllSequencesAsTheyWere) {
  Engine engine(model_, {.context = 8});
  Sequence good = engine.sequence(), full = engine.sequence();
  const auto four = ids(4, 3), nine = ids(9, 3);
  const auto none = [](size_t, int64_t, std::span<const float>) { FAIL(); };
  using Appends = std::vector<Engine::Append>;
  const std::vector<int32_t> outside{320};
  for (const Appends& appends :
       {Appends{{&good, four}, {&full, nine}}, Appends{{&good, four}, {&good, four}},
        Appends{{&good, four}, {&full, {}}}, Appends{{&good, four}, {&full, outside}}}) {
    EXPECT_THROW(engine.append(appends, Engine::Logits::kLast, none), Error);
    EXPECT_EQ(good.position(), 0);
    EXPECT_EQ(full.position(), 0);
  }
}

TEST_F(EngineTest, RefusesASequenceOfAnotherEngine) {
  const Engine larger(model_);
  Engine engine(model_, {.context = 8});
  Sequence sequence = larger.sequence();
  const auto tokens = ids(2, 3);
  EXPECT_THROW(engine.append(std::array{Engine::Append{&sequence, tokens}}, Engine::Logits::kLast,
                             [](size_t, int64_t, std::span<const float>) {}),
               Error);
}

TEST_F(EngineTest, RefusesASequenceOfAnotherModel) {
  const auto other = Model::load(testing::data_folder() / "reference/llama-packed");
  const Engine foreign(other);
  Sequence sequence = foreign.sequence();
  Engine engine(model_);
  const auto tokens = ids(2, 3);
  EXPECT_THROW(engine.append(std::array{Engine::Append{&sequence, tokens}}, Engine::Logits::kLast,
                             [](size_t, int64_t, std::span<const float>) {}),
               Error);
}

}  // namespace
}  // namespace bitnet
