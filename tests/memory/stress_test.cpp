#include "bitnet/memory/pool.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

struct Owned {
  unsigned char* block;
  size_t bytes;
  unsigned char mark;
};

/// Blocks that one thread allocates and another frees.
class Exchange {
 public:
  void put(Owned owned) {
    const std::lock_guard lock(mutex_);
    blocks_.push_back(owned);
  }
  std::vector<Owned> take_all() {
    const std::lock_guard lock(mutex_);
    return std::exchange(blocks_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Owned> blocks_;
};

size_t random_size(std::mt19937& random) {
  const auto kind = random() % 100;
  if (kind < 85) return random() % 9000;
  if (kind < 98) return random() % (size_t{1} << 18);
  return random() % (size_t{3} << 20);
}

/// Every block is marked at both ends for as long as it is live.
void check_and_free(HybridMemoryPool& pool, const Owned& owned) {
  if (owned.bytes != 0) {
    ASSERT_EQ(owned.block[0], owned.mark);
    ASSERT_EQ(owned.block[owned.bytes - 1], owned.mark);
  }
  pool.deallocate_raw(owned.block, owned.bytes);
}

void work(HybridMemoryPool& pool, Exchange& exchange, uint32_t seed, int rounds) {
  std::mt19937 random(seed);
  std::vector<Owned> mine;
  for (int i = 0; i < rounds; ++i) {
    const size_t bytes = random_size(random);
    const auto mark = static_cast<unsigned char>(random());
    const Owned owned{static_cast<unsigned char*>(pool.allocate_raw(bytes)), bytes, mark};
    if (bytes != 0) owned.block[0] = owned.block[bytes - 1] = mark;
    if (random() % 4 == 0) {
      exchange.put(owned);
    } else {
      mine.push_back(owned);
    }
    if (mine.size() > 50) {
      std::swap(mine[random() % mine.size()], mine.back());
      check_and_free(pool, mine.back());
      mine.pop_back();
    }
    if (i % 64 == 0) {
      for (const Owned& foreign : exchange.take_all()) check_and_free(pool, foreign);
    }
  }
  for (const Owned& owned : mine) check_and_free(pool, owned);
}

void stress(TrackingLevel level, int threads, int rounds) {
  HybridMemoryPool pool({.tracking = level});
  Exchange exchange;
  std::atomic<bool> done{false};
  std::thread observer([&] {
    while (!done) {
      pool.trim();
      const PoolStats stats = pool.stats();
      EXPECT_GE(stats.reserved_bytes, stats.held_bytes);
      if (level >= TrackingLevel::kDetailed) (void)pool.live_blocks();
      std::this_thread::yield();
    }
  });
  for (int generation = 0; generation < 3; ++generation) {  // threads end in between, and others take over
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) {
      const auto seed = static_cast<uint32_t>(generation * 100 + t);
      workers.emplace_back([&, seed] { work(pool, exchange, seed, rounds); });
    }
    for (std::thread& worker : workers) worker.join();
  }
  done = true;
  observer.join();
  for (const Owned& foreign : exchange.take_all()) check_and_free(pool, foreign);
  const PoolStats stats = pool.stats();
  EXPECT_EQ(stats.live_bytes, 0);
  EXPECT_EQ(stats.live_blocks, 0);
  EXPECT_EQ(stats.occupied_bytes, 0);
  EXPECT_EQ(stats.allocations, static_cast<uint64_t>(3 * threads * rounds));
  pool.trim();
  EXPECT_EQ(pool.stats().held_bytes, 0);
}

TEST(PoolStress, ThreadsFreeForeignBlocksWhileOthersTrimAndCount) {
  stress(TrackingLevel::kStandard, 6, 2000);
}

TEST(PoolStress, TheSameWithRecords) {
  stress(TrackingLevel::kDetailed, 4, 500);
}

TEST(PoolStress, ThreadsUseSeveralPoolsThatComeAndGo) {
  for (int round = 0; round < 5; ++round) {
    HybridMemoryPool a, b;
    Exchange of_a, of_b;
    std::vector<std::thread> workers;
    for (uint32_t t = 0; t < 4; ++t) {
      workers.emplace_back([&, t] {
        work(a, of_a, t, 100);
        work(b, of_b, t, 100);
      });
    }
    for (std::thread& worker : workers) worker.join();
    for (const Owned& owned : of_a.take_all()) check_and_free(a, owned);
    for (const Owned& owned : of_b.take_all()) check_and_free(b, owned);
    EXPECT_EQ(a.stats().occupied_bytes, 0);
    EXPECT_EQ(b.stats().occupied_bytes, 0);
  }
}

}  // namespace
}  // namespace bitnet
