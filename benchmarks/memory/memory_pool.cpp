// Allocation and freeing: our pool, the C library's malloc and mimalloc in one run, on 1 and 2 threads.
//   pair<bytes>    allocate one block and free it, again and again
//   batch<bytes>   allocate 64 blocks, then free them in another order
//   zeros<bytes>   allocate one block filled with zeros and free it
//   handle         allocate and free through a checked handle
//   training       replays a training run's allocations; its counters are shares, not times
// A block is written and read to its end before anything is timed, and touched at its first byte in the loop.
// `level` is TrackingLevel (0 off .. 3 debug). Run with --benchmark_enable_random_interleaving=true
// --benchmark_repetitions=5 on a shared machine.

#include "bitnet/memory/pool.h"
#include "bitnet/memory/trace.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include <benchmark/benchmark.h>
#include <dlfcn.h>

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
  void* zeros(size_t bytes) const { return memory.allocate_zeroed_raw(bytes); }
  void free(void* block, size_t bytes) const { memory.deallocate_raw(block, bytes); }
};

struct Malloc {
  static constexpr bool kHasLevels = false;
  explicit Malloc(const benchmark::State& /*state*/) {}
  static void* allocate(size_t bytes) { return std::malloc(bytes); }
  static void* zeros(size_t bytes) { return std::memset(std::malloc(bytes), 0, bytes); }
  static void free(void* block, size_t /*bytes*/) { std::free(block); }
};

/// Loaded, not linked: a program that links libmimalloc.so gets its malloc too, and there would be nothing to
/// compare.
struct Mimalloc {
  static constexpr bool kHasLevels = false;
  explicit Mimalloc(const benchmark::State& /*state*/) {}
  static void* allocate(size_t bytes) { return malloc_(bytes); }
  static void* zeros(size_t bytes) { return zalloc_(bytes); }
  static void free(void* block, size_t bytes) { free_size_(block, bytes); }

 private:
  static void* symbol(const char* name) {
    static void* const library = dlopen(BITNET_MIMALLOC, RTLD_NOW | RTLD_LOCAL);
    void* found = library != nullptr ? dlsym(library, name) : nullptr;
    if (found == nullptr) throw std::runtime_error(std::string("no ") + name + " in " + BITNET_MIMALLOC);
    return found;
  }
  static inline auto* const malloc_ = reinterpret_cast<void* (*)(size_t)>(symbol("mi_malloc"));
  static inline auto* const zalloc_ = reinterpret_cast<void* (*)(size_t)>(symbol("mi_zalloc"));
  static inline auto* const free_size_ = reinterpret_cast<void (*)(void*, size_t)>(symbol("mi_free_size"));
};

void touch(void* block) {
  *static_cast<volatile char*>(block) = 1;
}

/// Two blocks at once hold what is written to them.
template <class Allocator>
bool works(const Allocator& allocator, size_t bytes) {
  const std::span a(static_cast<unsigned char*>(allocator.allocate(bytes)), bytes);
  const std::span b(static_cast<unsigned char*>(allocator.zeros(bytes)), bytes);
  const auto all = [](std::span<const unsigned char> block, int value) {
    return std::ranges::all_of(block, [value](unsigned char byte) { return byte == value; });
  };
  std::ranges::fill(a, static_cast<unsigned char>(0xa5));
  const bool separate = all(b, 0);
  std::ranges::fill(b, static_cast<unsigned char>(0x5a));
  const bool kept = all(a, 0xa5);
  allocator.free(a.data(), bytes);
  allocator.free(b.data(), bytes);
  return separate && kept;
}

template <class Allocator>
void pair(benchmark::State& state) {
  const Allocator allocator(state);
  const auto bytes = static_cast<size_t>(state.range(0));
  if (!works(allocator, bytes)) return state.SkipWithError("a block does not hold what is written to it");
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
  const auto once = [&] {
    for (void*& block : blocks) touch(block = allocator.allocate(bytes));
    for (size_t i = 0; i < kBlocks; ++i) allocator.free(blocks[i * 29 % kBlocks], bytes);
  };
  once();  // the system's part is not what is measured
  for (auto _ : state) once();
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kBlocks));
}

template <class Allocator>
void zeros(benchmark::State& state) {
  const Allocator allocator(state);
  const auto bytes = static_cast<size_t>(state.range(0));
  if (!works(allocator, bytes)) return state.SkipWithError("a block does not hold what is written to it");
  for (auto _ : state) {
    void* block = allocator.zeros(bytes);
    benchmark::DoNotOptimize(block);
    benchmark::ClobberMemory();
    allocator.free(block, bytes);
  }
}

void handle(benchmark::State& state) {
  HybridMemoryPool& memory = pool(1);
  for (auto _ : state) {
    const bitnet::MemoryHandle block = memory.allocate(1024);
    touch(block.pointer);
    memory.deallocate(block);
  }
}

void training(benchmark::State& state) {
  bitnet::TrainingTraceOptions options;
  options.min_length = state.range(0);
  const bitnet::AllocationTrace trace = bitnet::training_trace(options);
  bitnet::ReplayResult result;
  for (auto _ : state) {
    HybridMemoryPool fresh;
    result = bitnet::replay(fresh, trace);
  }
  state.counters["success"] = result.success_after_warm_up;
  state.counters["held_over_live"] = result.held_over_live();
  state.counters["peak_live_bytes"] = static_cast<double>(result.peak_live_bytes);
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

template <class Allocator>
void one_matrix(benchmark::internal::Benchmark* benchmark) {
  if (Allocator::kHasLevels) {
    benchmark->Args({4096, 1})->ArgNames({"bytes", "level"});
  } else {
    benchmark->Arg(4096)->ArgName("bytes");
  }
}
BENCHMARK(zeros<Pool>)->Apply(one_matrix<Pool>);
BENCHMARK(zeros<Malloc>)->Apply(one_matrix<Malloc>);
BENCHMARK(zeros<Mimalloc>)->Apply(one_matrix<Mimalloc>);
BENCHMARK(handle);
BENCHMARK(training)->ArgName("min_length")->Arg(256)->Arg(192)->Unit(benchmark::kMillisecond);

}  // namespace
