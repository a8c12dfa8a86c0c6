// Blocks from a pool: raw, typed, checked; statistics, a leak found, memory given back, a cache evicted under
// pressure.
//   example_memory_pool
#include "bitnet/memory/cleanup.h"
#include "bitnet/memory/pool.h"

#include <cstdio>
#include <numeric>
#include <vector>

int main() try {
  // The process's pool for the CPU is HybridMemoryPool::instance(). A pool of one's own can have limits and
  // records.
  bitnet::HybridMemoryPool pool({.tracking = bitnet::TrackingLevel::kDetailed, .limit_bytes = 64 << 20});

  {
    const bitnet::PoolArray<float> array = pool.allocate_typed<float>(1000);  // freed with the scope
    std::iota(array.begin(), array.end(), 0.0f);
    void* raw = pool.allocate_raw(100'000);  // like operator new: the caller remembers the size
    pool.deallocate_raw(raw, 100'000);
  }

  const bitnet::MemoryHandle handle = pool.allocate(4096, 64, "weights");
  pool.deallocate(handle);
  try {
    pool.deallocate(handle);  // the same memory may serve someone else by now
  } catch (const bitnet::Error& error) {
    std::printf("%s\n", error.what());
  }

  const bitnet::LeakScope scope(pool);
  const bitnet::MemoryHandle forgotten = pool.allocate(777, 64, "forgotten");
  std::printf("leaked: %s\n", scope.report().to_string().c_str());
  pool.deallocate(forgotten);

  // A cache of blocks that the pool may ask to be freed, here because an allocation would fail otherwise.
  std::vector<bitnet::PoolArray<char>> cache;
  bitnet::PressureMonitor monitor;
  monitor.add_system_sources();
  monitor.add_pool("example", pool);
  bitnet::MemoryCleaner cleaner(pool, monitor);
  cleaner.register_cache("old results", 0, [&cache](int64_t wanted_bytes) {
    int64_t freed = 0;
    for (; freed < wanted_bytes && !cache.empty(); cache.pop_back()) {
      freed += static_cast<int64_t>(cache.back().size());
    }
    return freed;
  });
  for (int i = 0; i < 12; ++i) cache.push_back(pool.allocate_typed<char>(5 << 20));
  std::printf("pressure: %s\n", std::string(to_string(monitor.poll().level)).c_str());
  { const bitnet::PoolArray<char> needs_the_room = pool.allocate_typed<char>(40 << 20); }
  std::printf("evicted: %lld bytes\n", static_cast<long long>(cleaner.totals().evicted_bytes));

  const bitnet::ReleaseReport released = pool.trim();
  const bitnet::PoolStats stats = pool.stats();
  std::printf("given back: %lld bytes; %llu allocations, peak %lld bytes, %.0f %% served from the pool\n",
              static_cast<long long>(released.released_bytes),
              static_cast<unsigned long long>(stats.allocations),
              static_cast<long long>(stats.peak_live_bytes), 100 * stats.success_rate());
} catch (const bitnet::Error& error) {
  std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
  return 1;
}
