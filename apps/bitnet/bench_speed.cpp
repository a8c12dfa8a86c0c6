#include "bench_speed.h"

#include "activation_shares.h"
#include "bitnet/core/error.h"
#include "interrupt.h"

#include <algorithm>
#include <chrono>
#include <span>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

constexpr int64_t kTopK = 40;  // what the default sampler asks for

/// Appends ids[i, i + step) to every sequence at once, for i = 0, step, ...
void append_all(Engine& engine, std::span<Sequence> sequences, std::span<const int32_t> ids, size_t step) {
  std::vector<Engine::Append> appends;
  for (Sequence& sequence : sequences) appends.push_back({&sequence, {}});
  const std::vector<TopQuery> queries(appends.size(), {kTopK, {}});
  for (size_t i = 0; i < ids.size(); i += step) {
    throw_if_interrupted();
    for (Engine::Append& append : appends) append.ids = ids.subspan(i, step);
    engine.append_top(appends, queries, Engine::Logits::kLast,
                      [](size_t, int64_t, std::span<const Candidate>) {});
  }
}

/// Fills the caches up to the test's depth, those that are not.
void fill(Engine& engine, std::span<Sequence> sequences, const BenchTest& test, bool by_batch) {
  for (Sequence& sequence : sequences) {
    sequence.truncate(std::min(sequence.position(), test.depth));
    const std::vector<int32_t> ids =
        bench_ids(test.depth - sequence.position(), engine.model().config().vocab_size);
    append_all(engine, {&sequence, 1}, ids, by_batch ? ids.size() : 1);
  }
}

/// Decodes `steps` tokens in every sequence at once, each what the default sampler draws behind the one
/// before.
void decode_sampled(Engine& engine, std::span<Sequence> sequences, std::span<const int32_t> ids,
                    int64_t steps) {
  std::vector<Sampler> samplers;
  for (size_t i = 0; i < sequences.size(); ++i)
    samplers.emplace_back(SamplerOptions{.seed = i}, engine.model().config().vocab_size);
  std::vector<Engine::Decode> decodes;
  for (size_t i = 0; i < sequences.size(); ++i)
    decodes.push_back({&sequences[i], &samplers[i], ids[i % ids.size()]});
  int64_t done = 0;
  engine.decode(decodes, [&](std::span<const int32_t>) {
    throw_if_interrupted();
    return ++done < steps;
  });
}

double tokens_per_second(Engine& engine, std::span<Sequence> sequences, const BenchTest& test,
                         std::span<const int32_t> ids, bool sample) {
  const auto start = std::chrono::steady_clock::now();
  if (sample && !test.prefill) {
    decode_sampled(engine, sequences, ids, test.tokens);
  } else {
    append_all(engine, sequences, ids, test.prefill ? ids.size() : 1);
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  return static_cast<double>(test.tokens * test.sequences) / elapsed.count();
}

}  // namespace

std::string BenchTest::name() const {
  std::string name = fmt::format("{}{}", prefill ? "pp" : "tg", tokens);
  if (sequences != 1) name += fmt::format("x{}", sequences);
  if (depth != 0) name += fmt::format("@{}", depth);
  return name;
}

std::vector<BenchTest> bench_tests(const BenchOptions& options, int64_t context) {
  std::vector<BenchTest> tests;
  for (const int64_t tokens : options.prefill) tests.push_back({true, tokens});
  for (const int64_t depth : options.depths) {
    for (const int64_t tokens : options.decode) {
      for (const int64_t sequences : options.sequences) tests.push_back({false, tokens, depth, sequences});
    }
  }
  std::erase_if(tests, [](const BenchTest& test) { return test.tokens == 0; });
  for (const BenchTest& test : tests) {
    if (test.tokens + test.depth <= context) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} does not fit: the model's context is {} tokens", test.name(), context),
                fmt::format("give -p, and -n with --depth, at most {}", context));
  }
  return tests;
}

Json spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {{"median", median}, {"min", values.front()}, {"max", values.back()}};
}

std::vector<int32_t> bench_ids(int64_t count, int64_t vocab_size) {
  constexpr int64_t kStride = 7919;  // a prime: the ids wander over the whole vocabulary
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((i + 1) * kStride % vocab_size));
  return ids;
}

Json measure_speed(Engine& engine, std::span<Sequence> sequences, const BenchTest& test,
                   const BenchOptions& options) {
  const std::vector<int32_t> ids = bench_ids(test.tokens, engine.model().config().vocab_size);
  const auto used = sequences.first(static_cast<size_t>(test.sequences));
  const std::vector<LayerActivations> before = engine.activations();
  std::vector<double> speeds;
  for (int i = -options.warmup; i < options.repeats; ++i) {
    throw_if_interrupted();
    fill(engine, used, test, options.fill_by == "batch");
    const double speed = tokens_per_second(engine, used, test, ids, options.sample);
    if (i >= 0) speeds.push_back(speed);
  }
  Json row = {{"test", test.name()},
              {"threads", engine.threads()},
              {"tokens_per_second", spread_of(std::move(speeds))}};
  if (!engine.activations().empty()) {
    const ActivationShares shares = activation_shares_since(before, engine.activations());
    row["zeros"] = {{"closed_gates", shares.closed_gates}, {"zero_inputs", shares.zero_inputs}};
  }
  return row;
}

}  // namespace bitnet::cli
