#include "bitnet/memory/cleanup.h"

#include "fake_source.h"
#include "memory/system_memory.h"
#include "temporary_folder.h"

#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

constexpr int64_t kMiB = 1 << 20;

void write(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

/// A memory whose use a test sets.
struct Dial {
  int64_t used = 0, total = 1000;
  PressureMonitor::Query query() {
    return [this] { return MemoryCapacity{used, total}; };
  }
};

/// A cache of pool blocks of 2 MiB.
struct Cache {
  HybridMemoryPool& pool;
  std::vector<void*> blocks{};
  int64_t asked = 0;
  void fill(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      blocks.push_back(pool.allocate_raw(2 * kMiB));
      std::memset(blocks.back(), 1, 2 * kMiB);
    }
  }
  int64_t evict(int64_t wanted) {
    asked = wanted;
    int64_t freed = 0;
    for (; freed < wanted && !blocks.empty(); freed += 2 * kMiB) {
      pool.deallocate_raw(blocks.back(), 2 * kMiB);
      blocks.pop_back();
    }
    return freed;
  }
};

TEST(SystemMemory, ReadsMeminfo) {
  const testing::TemporaryFolder folder;
  write(folder.path() / "meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n");
  const auto memory = memory::system_memory(folder.path() / "meminfo");
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->total_bytes, 1000 * 1024);
  EXPECT_EQ(memory->used_bytes, 600 * 1024);
  EXPECT_FALSE(memory::system_memory(folder.path() / "absent").has_value());
  const auto here = memory::system_memory();
  ASSERT_TRUE(here.has_value());
  EXPECT_GT(here->total_bytes, here->used_bytes);
}

TEST(SystemMemory, TheTightestCgroupUpTheHierarchyCounts) {
  const testing::TemporaryFolder folder;
  const fs::path mount = folder.path() / "mount", group = folder.path() / "group";
  write(group, "5:cpu:/elsewhere\n0::/a/b\n");
  EXPECT_FALSE(memory::cgroup_memory(mount, group).has_value());  // no limit anywhere
  write(mount / "a/b/memory.max", "max\n");
  write(mount / "a/b/memory.current", "500\n");
  EXPECT_FALSE(memory::cgroup_memory(mount, group).has_value());
  write(mount / "a/memory.max", "1000\n");
  write(mount / "a/memory.current", "900\n");
  write(mount / "a/memory.stat", "anon 1\ninactive_file 300\nactive_file 5\n");
  auto memory = memory::cgroup_memory(mount, group);
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->used_bytes, 600);  // cache that the kernel would drop is not in use
  EXPECT_EQ(memory->total_bytes, 1000);
  write(mount / "a/b/memory.max", "600\n");
  memory = memory::cgroup_memory(mount, group);
  EXPECT_EQ(memory->used_bytes, 500);
  EXPECT_EQ(memory->total_bytes, 600);
  write(group, "5:cpu:/only/version/1\n");
  EXPECT_FALSE(memory::cgroup_memory(mount, group).has_value());
}

TEST(Pressure, LevelsFollowTheThresholds) {
  PressureMonitor monitor;
  EXPECT_EQ(monitor.poll().level, PressureLevel::kNone);  // no sources
  Dial dial;
  monitor.add_source("dial", dial.query());
  const std::vector<std::pair<int64_t, PressureLevel>> expected = {
      {0, PressureLevel::kNone},       {699, PressureLevel::kNone}, {700, PressureLevel::kLow},
      {800, PressureLevel::kMedium},   {900, PressureLevel::kHigh}, {950, PressureLevel::kCritical},
      {1100, PressureLevel::kCritical}};
  for (const auto& [used, level] : expected) {
    dial.used = used;
    EXPECT_EQ(monitor.poll().level, level) << used;
  }
  EXPECT_EQ(monitor.poll().excess_bytes, 400);
  dial.total = 0;  // unknown
  EXPECT_TRUE(monitor.read().empty());
  EXPECT_THROW(PressureMonitor({0.7, 0.6, 0.8, 0.9}), Error);
  EXPECT_THROW(PressureMonitor({0.7, 0.8, 0.9, 1.1}), Error);
  for (const auto& preset : {PressureThresholds::conservative(), PressureThresholds::production(),
                             PressureThresholds::aggressive()}) {
    EXPECT_NO_THROW(PressureMonitor{preset});
  }
}

TEST(Pressure, TheWorstSourceCountsAndRealOnesAnswer) {
  PressureMonitor monitor;
  monitor.add_system_sources();
  EXPECT_FALSE(monitor.read().empty());
  auto source = std::make_shared<FakeSource>(true, 100 * kMiB);
  HybridMemoryPool device(source, {}), limited({.limit_bytes = 10 * kMiB});
  monitor.add_pool("device", device);
  monitor.add_pool("host", limited);
  void* block = device.allocate_raw(85 * kMiB);
  void* part = limited.allocate_raw(9'800'000);
  const std::vector<PressureReading> readings = monitor.read();
  EXPECT_EQ(readings[0].source, "host limit");
  EXPECT_EQ(readings[0].level, PressureLevel::kHigh);
  EXPECT_EQ(readings[1].source, "device");
  EXPECT_EQ(readings[1].level, PressureLevel::kMedium);
  device.deallocate_raw(block, 85 * kMiB);
  limited.deallocate_raw(part, 9'800'000);
}

TEST(Pressure, CallbacksFireOncePerCooldownAndAtOnceWhenItGetsWorse) {
  PressureMonitor patient({}, 1h), eager({}, 0ms);
  Dial dial;
  std::vector<PressureLevel> seen, seen_again;
  const auto into = [](std::vector<PressureLevel>& levels) {
    return [&levels](const PressureReading& worst) { levels.push_back(worst.level); };
  };
  patient.add_source("dial", dial.query());
  eager.add_source("dial", dial.query());
  patient.on_pressure(PressureLevel::kMedium, into(seen));
  const uint64_t id = eager.on_pressure(PressureLevel::kMedium, into(seen_again));
  const auto at = [&](int64_t used) {
    dial.used = used;
    patient.poll();
    eager.poll();
  };
  for (const int64_t used : {750, 850, 850, 960, 960, 700, 850}) at(used);
  using enum PressureLevel;
  // After relief the next pressure is a new one.
  EXPECT_EQ(seen, (std::vector{kMedium, kCritical, kMedium}));
  EXPECT_EQ(seen_again, (std::vector{kMedium, kMedium, kCritical, kCritical, kMedium}));
  eager.remove_callback(id);
  at(960);
  EXPECT_EQ(seen_again.size(), 5u);
}

TEST(Cleanup, PressureEvictsAsMuchAsNeededLowPriorityFirst) {
  HybridMemoryPool pool;
  PressureMonitor monitor({}, 0ms);
  Dial dial{.used = 0, .total = 100 * kMiB};
  monitor.add_source("dial", dial.query());
  MemoryCleaner cleaner(pool, monitor);
  Cache precious{pool}, cheap{pool};
  precious.fill(5);
  cheap.fill(5);
  cleaner.register_cache("precious", 10, [&](int64_t wanted) { return precious.evict(wanted); });
  cleaner.register_cache("cheap", 1, [&](int64_t wanted) { return cheap.evict(wanted); });
  dial.used = 84 * kMiB;  // 14 MiB above kLow
  const CleanupReport report = cleaner.poll();
  EXPECT_TRUE(report.ran);
  EXPECT_EQ(report.strategy, CleanupStrategy::kPressure);
  EXPECT_EQ(report.evicted_bytes, 14 * kMiB);
  EXPECT_EQ(report.pool.released_bytes, 14 * kMiB);
  EXPECT_TRUE(cheap.blocks.empty());
  EXPECT_EQ(precious.blocks.size(), 3u);
  EXPECT_EQ(pool.stats().held_bytes, 6 * kMiB);
  dial.used = 99 * kMiB;
  EXPECT_EQ(cleaner.poll().strategy, CleanupStrategy::kEmergency);
  EXPECT_TRUE(precious.blocks.empty());
  EXPECT_EQ(pool.stats().held_bytes, 0);
  EXPECT_EQ(cleaner.totals().runs, 2u);
  EXPECT_EQ(cleaner.totals().released_bytes, 20 * kMiB);
}

TEST(Cleanup, AnAllocationThatWouldFailEvictsFirst) {
  HybridMemoryPool pool({.limit_bytes = static_cast<size_t>(10 * kMiB)});
  PressureMonitor monitor;
  Cache cache{pool};
  {
    MemoryCleaner cleaner(pool, monitor);
    const uint64_t id = cleaner.register_cache("cache", 0, [&](int64_t wanted) {
      // A cache that allocates while it is evicted gets an error, not a deadlock.
      EXPECT_THROW((void)pool.allocate_raw(static_cast<size_t>(20 * kMiB)), Error);
      return cache.evict(wanted);
    });
    cache.fill(5);
    void* block = pool.allocate_raw(static_cast<size_t>(8 * kMiB));
    EXPECT_TRUE(cache.blocks.empty());
    pool.deallocate_raw(block, static_cast<size_t>(8 * kMiB));
    cleaner.remove_cache(id);
    cache.fill(5);
    EXPECT_THROW((void)pool.allocate_raw(static_cast<size_t>(8 * kMiB)), Error);
  }
  EXPECT_THROW((void)pool.allocate_raw(static_cast<size_t>(8 * kMiB)), Error);  // without a cleaner as with
  cache.evict(100 * kMiB);
}

TEST(Cleanup, IdleAndPeriodicReturnRealBytes) {
  HybridMemoryPool pool;
  PressureMonitor monitor;
  MemoryCleaner cleaner(pool, monitor, {.idle_after = 20ms, .period = 1h});
  Cache cache{pool};
  cache.fill(4);
  cache.evict(100 * kMiB);
  EXPECT_FALSE(cleaner.poll().ran);  // active a moment ago
  std::this_thread::sleep_for(30ms);
  const CleanupReport idle = cleaner.poll();
  EXPECT_EQ(idle.strategy, CleanupStrategy::kIdle);
  EXPECT_EQ(idle.pool.released_bytes, 8 * kMiB);
  EXPECT_FALSE(cleaner.poll().ran);  // once per idle time

  MemoryCleaner often(pool, monitor, {.idle_after = 1h, .period = 0ms});
  cache.fill(4);
  EXPECT_FALSE(often.poll().ran);  // all that is held is used
  cache.evict(4 * kMiB);
  const CleanupReport periodic = often.poll();
  EXPECT_EQ(periodic.strategy, CleanupStrategy::kPeriodic);
  EXPECT_EQ(periodic.pool.released_bytes, 4 * kMiB);
  EXPECT_NEAR(periodic.pool.external_fragmentation_before, 0.5, 1e-9);
  EXPECT_EQ(periodic.pool.external_fragmentation_after, 0);
  cache.evict(100 * kMiB);
}

TEST(Cleanup, ItsThreadRunsOnlyBetweenStartAndStop) {
  HybridMemoryPool pool;
  PressureMonitor monitor;
  MemoryCleaner cleaner(pool, monitor, {.idle_after = 1ms});
  Cache cache{pool};
  cache.fill(2);
  cache.evict(100 * kMiB);
  EXPECT_EQ(cleaner.totals().runs, 0u);
  cleaner.start(1ms);
  EXPECT_THROW(cleaner.start(), Error);
  for (int i = 0; i < 5000 && pool.stats().held_bytes > 0; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_EQ(pool.stats().held_bytes, 0);
  cleaner.stop();
  cleaner.stop();
  cleaner.start(1h);  // the destructor does not wait for the hour
}

}  // namespace
}  // namespace bitnet
