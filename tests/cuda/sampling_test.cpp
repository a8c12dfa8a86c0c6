// Tokens that the GPU draws are those of Sampler.

#include "bitnet/inference/engine.h"
#include "bitnet/inference/generate.h"
#include "cuda_test.h"
#include "inference/fixtures.h"

#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

namespace bitnet::cuda {
namespace {

class Sampling : public CudaTest {};

constexpr int64_t kVocab = 5000;

SampleRow row_of(const SamplerOptions& options, double number) {
  const double min_p = options.min_p;
  return {.temperature = options.temperature,
          .top_p = options.top_p,
          .log_min_p = min_p > 0 ? std::log(min_p) : -std::numeric_limits<double>::infinity(),
          .number = number,
          .k = options.temperature == 0 ? 1 : options.top_k};
}

/// `count` candidates in a random order.
TopCandidates random_candidates(Random& random, int count, bool ties) {
  std::vector<int32_t> ids(kVocab);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  TopCandidates found = {};
  found.count = count;
  const std::vector<float> logits = random_floats(random, count, -8, 8);
  for (int i = 0; i < count; ++i) {
    const float logit = logits[static_cast<size_t>(i)];
    found.ids[i] = ids[static_cast<size_t>(i)];
    found.logits[i] = ties ? std::round(logit) * 0.25f : logit;  // some of them -0
  }
  return found;
}

std::vector<Candidate> in_order_of_id(const TopCandidates& found) {
  std::vector<Candidate> candidates;
  for (int i = 0; i < found.count; ++i) candidates.push_back({found.ids[i], found.logits[i]});
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  return candidates;
}

std::vector<int32_t> draw(const std::vector<TopCandidates>& found, const std::vector<SampleRow>& rows) {
  const DeviceBuffer device_found = to_device(found);
  const auto count = std::ssize(found);
  const DeviceBuffer tokens = filled<int32_t>(count), ids = filled<int32_t>(count),
                     advance = filled<DecodeRow>(
                         count, {.keys = nullptr, .values = nullptr, .row = 0, .position = 7});
  SampleArgs args = {.found = device_found.as<TopCandidates>(),
                     .count = count,
                     .tokens = tokens.as<int32_t>(),
                     .ids = ids.as<int32_t>(),
                     .advance = advance.as<DecodeRow>(),
                     .rows = {}};
  std::copy(rows.begin(), rows.end(), std::begin(args.rows));
  run([&](Stream stream) { table().sample(args, stream); });
  const std::vector<int32_t> drawn = to_host<int32_t>(tokens), embedded = to_host<int32_t>(ids);
  for (size_t i = 0; i < drawn.size(); ++i) EXPECT_EQ(embedded[i], std::max(drawn[i], 0));
  for (const DecodeRow& row : to_host<DecodeRow>(advance)) EXPECT_EQ(row.position, 8);
  return drawn;
}

/// Chains of one kind of each, their ends, and many candidates.
TEST_F(Sampling, TheSamplersTokens) {
  std::vector<SamplerOptions> chains;
  chains.push_back(SamplerOptions::greedy());
  chains.push_back({});
  chains.push_back({.temperature = 1.0f, .top_k = 1});
  chains.push_back({.temperature = 0.01f, .top_k = 40});
  chains.push_back({.temperature = 100.0f, .top_k = 511, .top_p = 1, .min_p = 0});
  chains.push_back({.temperature = 1.3f, .top_k = 100, .top_p = 0.5f, .min_p = 0});
  chains.push_back({.temperature = 0.7f, .top_k = 300, .top_p = 1, .min_p = 0.3f});
  chains.push_back({.temperature = 1.0f, .top_k = 64, .top_p = 1e-6f, .min_p = 1});
  Random random(3);
  std::vector<TopCandidates> found;
  std::vector<SampleRow> rows;
  std::vector<int32_t> expected;
  const auto flush = [&] {
    EXPECT_EQ(draw(found, rows), expected);
    found.clear();
    rows.clear();
    expected.clear();
  };
  for (int i = 0; i < 40; ++i) {
    for (SamplerOptions options : chains) {
      options.seed = static_cast<uint64_t>(i);
      const int least = options.temperature == 0 ? 1 : options.top_k;
      const int count = std::min(least + i * i, static_cast<int>(kMostTopCandidates));
      found.push_back(random_candidates(random, count, i % 2 == 1));
      Sampler sampler(options, kVocab);
      rows.push_back(row_of(options, sampler.uniform()));
      expected.push_back(sampler.sample(in_order_of_id(found.back())));
    }
    if (found.size() + chains.size() > kMostTopTokens) flush();
  }
  if (!found.empty()) flush();
}

TEST_F(Sampling, WhatOnlyAllLogitsDecideIsLeftToTheHost) {
  Random random(4);
  std::vector<TopCandidates> found(4, random_candidates(random, 50, false));
  found[0].count = kMostTopCandidates + 1;
  found[1].logits[49] = std::numeric_limits<float>::quiet_NaN();
  found[2].logits[0] = std::numeric_limits<float>::infinity();
  const std::vector<int32_t> drawn = draw(found, std::vector<SampleRow>(4, row_of({}, 0.5)));
  EXPECT_EQ(std::vector<int32_t>(drawn.begin(), drawn.begin() + 3), (std::vector<int32_t>{-1, -1, -1}));
  EXPECT_GE(drawn[3], 0);
}

/// Numbers at the two ends of [0, 1).
TEST_F(Sampling, TheFirstAndTheLastOfTheChain) {
  Random random(5);
  const TopCandidates found = random_candidates(random, 60, false);
  std::vector<Candidate> ranked = in_order_of_id(found);
  std::sort(ranked.begin(), ranked.end(),
            [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
  const SamplerOptions options{.temperature = 100, .top_k = 50, .top_p = 1, .min_p = 0};
  const std::vector<int32_t> drawn = draw({found, found}, {row_of(options, 0), row_of(options, 1 - 0x1p-53)});
  EXPECT_EQ(drawn, (std::vector<int32_t>{ranked[0].id, ranked[49].id}));
}

std::vector<SamplerOptions> text_chains() {
  SamplerOptions nucleus{.temperature = 1.2f, .top_k = 100, .top_p = 0.9f, .min_p = 0, .seed = 5};
  SamplerOptions penalized{.repetition_penalty = 1.2f, .seed = 6};  // of these the host draws
  SamplerOptions all{.top_k = 0, .seed = 7};
  return {SamplerOptions::greedy(), {}, nucleus, penalized, all};
}

void expect_same(const GenerateResult& found, const GenerateResult& expected) {
  EXPECT_EQ(found.ids, expected.ids);
  EXPECT_EQ(found.text, expected.text);
  EXPECT_EQ(found.stop_reason, expected.stop_reason);
}

/// With all that ends a text, and the shift of a context that is full.
TEST_F(Sampling, GivesTheProcessorsTexts) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<int32_t> prompt = model->require_tokenizer().encode("The captain looked");
  std::vector<GenerateOptions> ends(4, {.max_tokens = 60});
  ends[1].stop_strings = {"the", "and"};
  ends[2].max_tokens = -1;
  ends[3].max_tokens = 100;
  ends[3].context_shift = true;
  ends[3].ignore_stop_tokens = true;
  for (GenerateOptions& options : ends) {
    for (const SamplerOptions& sampler : text_chains()) {
      options.sampler = sampler;
      const int64_t context = options.context_shift || options.max_tokens < 0 ? 48 : 200;
      Session cpu(model, {.context = context}), gpu(model, {.context = context, .device = "cuda"});
      expect_same(generate(gpu, prompt, options), generate(cpu, prompt, options));
      EXPECT_EQ(gpu.position(), cpu.position());
    }
  }
}

TEST_F(Sampling, AReaderWhoStopsLeavesTheSessionAsOnTheProcessor) {
  const auto model = Model::load(testing::bundled_model());
  const std::vector<int32_t> prompt = model->require_tokenizer().encode("It was");
  for (const char* device : {"cpu", "cuda"}) {
    Session session(model, {.context = 100, .device = device});
    int read = 0;
    const GenerateResult result =
        generate(session, prompt, {.sampler = SamplerOptions::greedy(), .ignore_stop_tokens = true},
                 [&](const GenerateEvent&) { return ++read < 9; });
    EXPECT_EQ(result.stop_reason, StopReason::kCancelled);
    EXPECT_EQ(session.position(), std::ssize(prompt) + 8);
    // What was drawn ahead left nothing behind.
    const GenerateResult more = generate(session, std::span(result.ids).last(1),
                                         {.sampler = SamplerOptions::greedy(), .max_tokens = 5});
    Session fresh(model, {.context = 100});
    std::vector<int32_t> all(prompt);
    all.insert(all.end(), result.ids.begin(), result.ids.end());
    EXPECT_EQ(more.ids, generate(fresh, all, {.sampler = SamplerOptions::greedy(), .max_tokens = 5}).ids);
  }
}

/// Texts of many lengths side by side: as each ends, the others go on.
TEST_F(Sampling, ManyTextsAtOnceAreThoseOfTheProcessor) {
  const auto model = Model::load(testing::bundled_model());
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < 90; ++i) {
    prompts.push_back(model->require_tokenizer().encode(i % 3 == 0 ? "Once upon a time" : "The old ship"));
    prompts.back().push_back(i * 13 % 4000 + 5);
  }
  GenerateOptions options{.max_tokens = 20, .stop_strings = {"th"}};
  for (const SamplerOptions& sampler : text_chains()) {
    options.sampler = sampler;
    std::map<int64_t, GenerateResult> texts[2];
    for (const bool gpu : {false, true}) {
      Engine engine(model, {.context = 60, .device = gpu ? "cuda" : "cpu"});
      generate_all(
          engine, options, gpu ? 70 : 16,
          [&, next = size_t{0}]() mutable -> std::optional<std::vector<int32_t>> {
            if (next == prompts.size()) return std::nullopt;
            return prompts[next++];
          },
          [&](int64_t index, GenerateResult result) { texts[gpu ? 1 : 0][index] = std::move(result); });
    }
    ASSERT_EQ(texts[1].size(), prompts.size());
    for (const auto& [index, text] : texts[0]) expect_same(texts[1].at(index), text);
  }
}

/// Engines and models in one process, in turns and at once, and a model whose sessions lie on both sides.
TEST_F(Sampling, EnginesAndModelsDoNotDisturbOneAnother) {
  LoadOptions deferred;
  deferred.defer_layout = true;
  const auto story = Model::load(testing::bundled_model(), deferred);
  const auto other = Model::load(testing::data_folder() / "reference/bitnet-packed", deferred);
  const GenerateOptions options{.max_tokens = 24, .ignore_stop_tokens = true};
  const std::vector<int32_t> prompt{5, 9, 17};
  Session first(story, {.context = 64, .device = "cuda"}), second(other, {.context = 64, .device = "cuda"});
  Session third(story, {.context = 100, .kv_type = DType::kF16, .device = "cuda"});
  Session processor(story, {.context = 64}), other_processor(other, {.context = 64});
  const std::vector<int32_t> expected = generate(processor, prompt, options).ids;
  const std::vector<int32_t> other_expected = generate(other_processor, prompt, options).ids;
  GenerateResult inner, inner_third;
  const auto in_between = [&](const GenerateEvent&) {  // while steps of the first are on their way
    if (inner.ids.empty()) {
      inner = generate(second, prompt, options);
      inner_third = generate(third, prompt, options);
    }
    return true;
  };
  EXPECT_EQ(generate(first, prompt, options, in_between).ids, expected);
  EXPECT_EQ(inner.ids, other_expected);
  third.truncate(0);
  EXPECT_EQ(generate(third, prompt, options).ids, inner_third.ids);
}

}  // namespace
}  // namespace bitnet::cuda
