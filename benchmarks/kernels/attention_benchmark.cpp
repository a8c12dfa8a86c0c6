// Single-thread speed of attention over one KV head of BitNet b1.58 2B-4T (4 query heads of 128), on every
// table and cache type, first compared with the scalar table.
//   attention_benchmark --benchmark_filter='prefill/.*/avx2'

#include "bitnet/core/memory.h"
#include "kernels/kernel_table.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kHeadDim = 128, kGroup = 4, kTileQueries = 48;  // the tile of inference/attention.cpp

AlignedBuffer random_floats(int64_t count) {
  AlignedBuffer buffer(static_cast<size_t>(count) * sizeof(float));
  std::mt19937 random(1);
  for (int64_t i = 0; i < count; ++i) buffer.as<float>()[i] = static_cast<float>(random()) * 0x1p-31f - 1.0f;
  return buffer;
}

/// `positions` keys or values; in which order does not matter for the time.
AlignedBuffer random_cache(int64_t positions, DType type) {
  const int64_t count = positions * kHeadDim;
  AlignedBuffer floats = random_floats(count);
  if (type == DType::kF32) return floats;
  AlignedBuffer cache(static_cast<size_t>(count * dtype_info(type).block_bytes));
  for (int64_t i = 0; i < count && type == DType::kI8; ++i)
    cache.as<int8_t>()[i] = static_cast<int8_t>(floats.as<float>()[i] * 127);
  int tables = 0;
  if (type == DType::kF16)
    runnable_kernels(&tables)[0]->store_f16(floats.as<float>(), cache.as<uint16_t>(), count);
  return cache;
}

struct States {
  AlignedBuffer max{kTileQueries * sizeof(float)}, sum{kTileQueries * sizeof(float)},
      o{kTileQueries * kHeadDim * sizeof(float)};
  AttentionState from(int64_t row) {
    return {max.as<float>() + row, sum.as<float>() + row, o.as<float>() + row * kHeadDim, kHeadDim};
  }
};

/// Tokens [position, position + tokens) of a sequence, `kGroup` queries each, over `heads` caches in turn: as
/// many as all layers have when they should come from memory.
struct Problem {
  Problem(int64_t first, int64_t count, DType kv_type, int64_t head_count)
      : heads(head_count),
        positions((first + count + 15) / 16 * 16),
        position(first),
        tokens(count),
        type(kv_type),
        keys(random_cache(head_count * ((first + count + 15) / 16 * 16), kv_type)),
        values(random_cache(head_count * ((first + count + 15) / 16 * 16), kv_type)),
        scales(random_floats((first + count + 15) / 16 * 16)),
        q(random_floats(count * kGroup * kHeadDim)),
        q8(static_cast<size_t>(count * kGroup * kHeadDim)),
        q_scale(static_cast<size_t>(count * kGroup) * sizeof(float)),
        q_sum(static_cast<size_t>(count * kGroup) * sizeof(int32_t)) {
    int tables = 0;
    runnable_kernels(&tables)[0]->quantize({q.as<float>(), kHeadDim, count * kGroup, kHeadDim,
                                            q8.as<int8_t>(), kHeadDim, q_scale.as<float>(),
                                            q_sum.as<int32_t>()});
    for (int64_t i = 0; i < count * kGroup; ++i) q_scale.as<float>()[i] = 1 / q_scale.as<float>()[i];
    for (int64_t i = 0; i < static_cast<int64_t>(scales.size() / sizeof(float)); ++i)
      scales.as<float>()[i] = (2 + scales.as<float>()[i]) / 127;
  }

  int64_t heads, positions, position, tokens;
  int64_t head = 0;
  DType type;
  AlignedBuffer keys, values, scales, q, q8, q_scale, q_sum;
  AlignedBuffer weights{kTileQueries * kAttentionChunk * sizeof(float)};
  States total, part;

  [[nodiscard]] int64_t length(int64_t query) const { return position + query / kGroup + 1; }

  void chunk(const KernelTable& table, int64_t query, int64_t count, int64_t start, AttentionState out) {
    int32_t lengths[kTileQueries];
    for (int64_t i = 0; i < count; ++i)
      lengths[i] = static_cast<int32_t>(std::min(length(query + i) - start, kAttentionChunk));
    const int64_t offset = (head * positions + start) * kHeadDim * dtype_info(type).block_bytes;
    table.attention_chunk({.q = q.as<float>() + query * kHeadDim,
                           .q8 = q8.as<int8_t>() + query * kHeadDim,
                           .q_scale = q_scale.as<float>() + query,
                           .q_sum = q_sum.as<int32_t>() + query,
                           .q_stride = kHeadDim,
                           .queries = count,
                           .lengths = lengths,
                           .keys = keys.data() + offset,
                           .values = values.data() + offset,
                           .key_scale = scales.as<float>() + start,
                           .value_scale = scales.as<float>() + start,
                           .kv_type = type,
                           .head_dim = kHeadDim,
                           .scale = 0.0884f,
                           .weights = weights.as<float>(),
                           .out = out});
  }

  /// Queries [first, first + count), as inference/attention.cpp does them on one thread.
  void tile(const KernelTable& table, int64_t first, int64_t count) {
    chunk(table, first, count, 0, total.from(0));
    for (int64_t start = kAttentionChunk; start < length(first + count - 1); start += kAttentionChunk) {
      int64_t skip = 0;
      while (length(first + skip) <= start) ++skip;
      chunk(table, first + skip, count - skip, start, part.from(0));
      table.attention_merge({total.from(skip), part.from(0), count - skip, kHeadDim});
    }
  }
  void run(const KernelTable& table) {
    head = (head + 1) % heads;
    for (int64_t first = 0; first < tokens * kGroup; first += kTileQueries)
      tile(table, first, std::min(kTileQueries, tokens * kGroup - first));
  }
};

/// `first` tokens in the cache, then `tokens` more at once.
void attention(benchmark::State& state, const KernelTable& table, const KernelTable& oracle, int64_t first,
               int64_t tokens, DType type, int64_t heads) {
  Problem problem(first, tokens, type, heads);
  const int64_t last = (tokens * kGroup - 1) / kTileQueries * kTileQueries, rest = tokens * kGroup - last;
  const auto last_tile = [&](const KernelTable& with) {
    problem.tile(with, last, rest);
    const float* o = problem.total.from(0).o;
    return std::vector<float>(o, o + rest * kHeadDim);
  };
  const std::vector<float> expected = last_tile(oracle), actual = last_tile(table);
  if (std::memcmp(expected.data(), actual.data(), expected.size() * sizeof(float)) != 0)
    return state.SkipWithError("result differs from scalar");
  for (auto _ : state) {
    problem.run(table);
    benchmark::ClobberMemory();
  }
  using benchmark::Counter;
  const auto iterations = static_cast<double>(state.iterations());
  const double pairs = static_cast<double>(kGroup * tokens) *
                       (static_cast<double>(first) + 0.5 * static_cast<double>(tokens + 1));
  state.counters["GFLOP/s"] = Counter(4 * kHeadDim * pairs * iterations * 1e-9, Counter::kIsRate);
  if (tokens > 1) return;
  const auto bytes = static_cast<double>(2 * (first + 1) * kHeadDim * dtype_info(type).block_bytes);
  state.counters["GB/s"] = Counter(bytes * iterations * 1e-9, Counter::kIsRate);
}

void register_all() {
  int count = 0;
  const KernelTable* const* tables = runnable_kernels(&count);
  const KernelTable& oracle = *tables[count - 1];
  for (int i = 0; i < count - 1; ++i) {
    for (const DType type : {DType::kF32, DType::kF16, DType::kI8}) {
      const auto add = [&](const char* name, int64_t label, int64_t first, int64_t tokens, int64_t heads) {
        benchmark::RegisterBenchmark(
            fmt::format("{}/{}/{}/{}", name, label, to_string(type), tables[i]->name).c_str(),
            [=, &oracle](benchmark::State& state) {
              attention(state, *tables[i], oracle, first, tokens, type, heads);
            })
            ->Unit(benchmark::kMicrosecond);
      };
      for (const int64_t tokens : {512, 4096}) add("prefill", tokens, 0, tokens, 1);
      for (const int64_t depth : {512, 3500}) add("decode", depth, depth, 1, 1);
      add("decode_cold", 3500, 3500, 1, 150);
    }
  }
}

}  // namespace
}  // namespace bitnet::kernels

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  bitnet::kernels::register_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
