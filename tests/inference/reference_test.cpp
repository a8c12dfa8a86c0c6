// The forward pass against PyTorch's answers (limits: tests/data/reference/README.md) and against our own
// oracle.

#include "bitnet/inference/generate.h"
#include "bitnet/model/checkpoint.h"
#include "bitnet/model/convert.h"
#include "fixtures.h"
#include "temporary_folder.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

using testing::Expected;

struct Agreement {
  double cosine = 1;          // the least over the rows
  double worst_relative = 0;  // largest difference / largest |logit|
};

Agreement compare(std::span<const float> found, std::span<const float> expected, size_t vocab) {
  Agreement agreement;
  double highest = 0, difference = 0;
  for (size_t row = 0; row < expected.size() / vocab; ++row) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = row * vocab; i < (row + 1) * vocab; ++i) {
      const double a = found[i], b = expected[i];
      ab += a * b, aa += a * a, bb += b * b;
      highest = std::max(highest, std::abs(b));
      difference = std::max(difference, std::abs(a - b));
    }
    agreement.cosine = std::min(agreement.cosine, ab / std::sqrt(aa * bb));
  }
  agreement.worst_relative = difference / highest;
  return agreement;
}

void expect_agreement(std::span<const float> found, std::span<const float> expected, size_t vocab) {
  ASSERT_EQ(found.size(), expected.size());
  const Agreement agreement = compare(found, expected, vocab);
  EXPECT_GT(agreement.cosine, 0.9999);
  EXPECT_LT(agreement.worst_relative, 0.02);
}

/// Along PyTorch's greedy continuation, each of its tokens is our highest logit, or lies within the
/// reference's limit (2 % of the largest logit) of it: there a rounding to int8 that fell on the other side
/// of a tie may decide. In bitnet-packed that happens once, at step 11 (2.8430 against 2.8351).
void expect_continuation(Session& session, const Expected& expected, int allowed_ties) {
  std::vector<int32_t> path = expected.input_ids;
  path.insert(path.end(), expected.greedy_ids.begin(), expected.greedy_ids.end());
  const size_t first = expected.input_ids.size() - 1;
  int ties = 0;
  session.append_each(path, [&](int64_t index, std::span<const float> logits) {
    const auto row = static_cast<size_t>(index);
    if (row < first || row + 1 >= path.size()) return;
    const float top = *std::max_element(logits.begin(), logits.end());
    const float theirs = logits[static_cast<size_t>(path[row + 1])];
    if (theirs < top) ++ties;
    EXPECT_GE(theirs, top - 0.02f * std::abs(top)) << "step " << row - first;
  });
  EXPECT_LE(ties, allowed_ties);
}

void expect_answers(const std::filesystem::path& path, const Expected& expected, int allowed_ties) {
  const auto model = Model::load(path);
  const auto vocab = static_cast<size_t>(model->config().vocab_size);
  Session session(model);
  expect_agreement(session.append_all_logits(expected.input_ids), expected.logits, vocab);
  EXPECT_NEAR(perplexity_of_ids(session, expected.input_ids).mean_nll, expected.mean_nll, 1e-3);

  session.truncate(0);
  expect_continuation(session, expected, allowed_ties);
  if (allowed_ties > 0) return;
  session.truncate(0);
  GenerateOptions options;
  options.sampler = SamplerOptions::greedy();
  options.max_tokens = static_cast<int64_t>(expected.greedy_ids.size());
  options.ignore_stop_tokens = true;
  EXPECT_EQ(generate(session, expected.input_ids, options).ids, expected.greedy_ids);
}

class ReferenceSet : public ::testing::TestWithParam<const char*> {
 protected:
  int allowed_ties() const { return std::string_view(GetParam()) == "bitnet-packed" ? 1 : 0; }
  std::filesystem::path folder() const { return testing::data_folder() / "reference" / GetParam(); }
};

TEST_P(ReferenceSet, TheFolderGivesPyTorchsAnswers) {
  expect_answers(folder(), testing::read_expected(folder()), allowed_ties());
}

TEST_P(ReferenceSet, TheOracleGivesPyTorchsAnswersAndTheEnginesOwn) {
  const Expected expected = testing::read_expected(folder());
  const std::vector<float> oracle = reference_logits(folder(), expected.input_ids);
  const auto vocab = oracle.size() / expected.input_ids.size();
  expect_agreement(oracle, expected.logits, vocab);
  Session session(Model::load(folder()));
  expect_agreement(session.append_all_logits(expected.input_ids), oracle, vocab);
}

TEST_P(ReferenceSet, ConversionToGgufAndBackChangesNoLogit) {
  const Expected expected = testing::read_expected(folder());
  const testing::TemporaryFolder work;
  ConvertOptions to_gguf;
  convert(Checkpoint::open(folder()), work / "model.gguf", to_gguf);
  ConvertOptions to_folder;
  to_folder.target = ConvertOptions::Target::kHuggingFace;
  convert(Checkpoint::open(work / "model.gguf"), work / "folder", to_folder);

  Session original(Model::load(folder()));
  const std::vector<float> logits = original.append_all_logits(expected.input_ids);
  for (const char* name : {"model.gguf", "folder"}) {
    SCOPED_TRACE(name);
    expect_answers(work / name, expected, allowed_ties());
    Session session(Model::load(work / name));
    EXPECT_EQ(session.append_all_logits(expected.input_ids), logits);
  }
}

TEST_P(ReferenceSet, EveryInstructionSetThreadCountAndBatchGivesTheSameBits) {
  const Expected expected = testing::read_expected(folder());
  const auto model = Model::load(folder());
  std::vector<float> first;
  for (const std::string& isa : testing::isas()) {
    for (const int threads : {1, 3}) {
      for (const int64_t batch : {1, 7, 512}) {
        Session session(model, {.threads = threads, .isa = isa, .batch = batch});
        const std::vector<float> logits = session.append_all_logits(expected.input_ids);
        if (first.empty()) first = logits;
        EXPECT_EQ(logits, first) << isa << ", " << threads << " threads, batch " << batch;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, ReferenceSet,
                         ::testing::Values("bitnet-online", "bitnet-packed", "llama-packed"),
                         [](const auto& set) {
                           std::string name = set.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace bitnet
