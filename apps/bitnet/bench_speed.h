#pragma once

#include "bench_options.h"
#include "bitnet/inference/engine.h"
#include "common_options.h"
#include "terminal.h"

#include <span>
#include <string>
#include <vector>

namespace bitnet::cli {

/// One row: prefill of `tokens` tokens, or decoding of `tokens` tokens after `depth` others in each of
/// `sequences` sequences, all of them together.
struct BenchTest {
  bool prefill = true;
  int64_t tokens = 0;
  int64_t depth = 0;
  int64_t sequences = 1;
  /// "pp512", "tg128", "tg128@3500", "tg128x8" (8 sequences)
  [[nodiscard]] std::string name() const;
};

/// The tests that the options ask for; may be none. Throws kInvalidArgument if one does not fit the context.
[[nodiscard]] std::vector<BenchTest> bench_tests(const BenchOptions& options, int64_t context);

/// {"median", "min", "max"} of measurements.
[[nodiscard]] Json spread_of(std::vector<double> values);

/// Any ids do, as long as they differ: equal tokens would fetch one embedding row from the cache.
[[nodiscard]] std::vector<int32_t> bench_ids(int64_t count, int64_t vocab_size);

/// Runs one test on sequences[0, test.sequences) and describes it: {"test", "threads", "tokens_per_second"},
/// where the tokens are those of all sequences.
[[nodiscard]] Json measure_speed(Engine& engine, std::span<Sequence> sequences, const BenchTest& test,
                                 const BenchOptions& options);

}  // namespace bitnet::cli
