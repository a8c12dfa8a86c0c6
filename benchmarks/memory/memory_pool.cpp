// Allocation and freeing: our pool, malloc and mimalloc in one run, on 1 and 2 threads.
//   pair<bytes>    allocate one block and free it, again and again
//   batch<bytes>   allocate 64 blocks, then free them in another order
// A block is touched at its first byte, as a user would. `level` is TrackingLevel (0 off .. 3 debug).
// Run with --benchmark_enable_random_interleaving=true --benchmark_repetitions=5 on a shared machine.

#include "bitnet/memory/pool.h"

#include <array>
#include <cstdlib>
#include <memory>

#include <benchmark/benchmark.h>
#include <mimalloc.h>

namespace {

using bitnet::HybridMemoryPool;
using bitnet::TrackingLevel;

/// A pool for each level, shared by the threads of a benchmark.
HybridMemoryPool& pool(int64_t level) {
  static auto* const pools = [] {
    auto* all = new std::array<std::unique_ptr<HybridMemoryPool>, 4>;
    for (size_t i = 0; i < 4; ++i) {
      (*all)[i] =
          std::make_unique<HybridMemoryPool>(bitnet::PoolOptions{.tracking = static_cast<TrackingLevel>(i)});
    }
    return all;
  }();
  return *(*pools)[static_cast<size_t>(level)];
}

struct Pool {
  static constexpr bool kHasLevels = true;
  HybridMemoryPool& memory;
  explicit Pool(const benchmark::State& state) : memory(pool(state.range(1))) {}
  void* allocate(size_t bytes) const { return memory.allocate_raw(bytes); }
  void free(void* block, size_t bytes) const { memory.deallocate_raw(block, bytes); }
};

struct Malloc {
  static constexpr bool kHasLevels = false;
  explicit Malloc(const benchmark::State& /*state*/) {}
  static void* allocate(size_t bytes) { return std::malloc(bytes); }
  static void free(void* block, size_t /*bytes*/) { std::free(block); }
};

struct Mimalloc {
  static constexpr bool kHasLevels = false;
  explicit Mimalloc(const benchmark::State& /*state*/) {}
  static void* allocate(size_t bytes) { return mi_malloc(bytes); }
  static void free(void* block, size_t bytes) { mi_free_size(block, bytes); }
};

void touch(void* block) {
  *static_cast<volatile char*>(block) = 1;
}

template <class Allocator>
void pair(benchmark::State& state) {
  const Allocator allocator(state);
  const auto bytes = static_cast<size_t>(state.range(0));
  for (auto _ : state) {
    void* block = allocator.allocate(bytes);
    touch(block);
    benchmark::DoNotOptimize(block);
    allocator.free(block, bytes);
  }
}

template <class Allocator>
void batch(benchmark::State& state) {
  constexpr size_t kBlocks = 64;
  const Allocator allocator(state);
  const auto bytes = static_cast<size_t>(state.range(0));
  std::array<void*, kBlocks> blocks{};
  for (auto _ : state) {
    for (void*& block : blocks) touch(block = allocator.allocate(bytes));
    for (size_t i = 0; i < kBlocks; ++i) allocator.free(blocks[i * 29 % kBlocks], bytes);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBlocks));
}

template <class Allocator>
void sizes(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t bytes : {64, 1024, 8192, 65536, 1 << 20, 4 << 20}) {
    if (!Allocator::kHasLevels) {
      benchmark->Arg(bytes);
      continue;
    }
    for (int64_t level = 0; level < 4; ++level) {
      if (level < 2 || bytes == 1024) benchmark->Args({bytes, level});
    }
  }
  if (Allocator::kHasLevels) {
    benchmark->ArgNames({"bytes", "level"});
  } else {
    benchmark->ArgName("bytes");
  }
  benchmark->ThreadRange(1, 2)->UseRealTime();
}

BENCHMARK(pair<Pool>)->Apply(sizes<Pool>);
BENCHMARK(pair<Malloc>)->Apply(sizes<Malloc>);
BENCHMARK(pair<Mimalloc>)->Apply(sizes<Mimalloc>);
BENCHMARK(batch<Pool>)->Apply(sizes<Pool>);
BENCHMARK(batch<Malloc>)->Apply(sizes<Malloc>);
BENCHMARK(batch<Mimalloc>)->Apply(sizes<Mimalloc>);

}  // namespace
