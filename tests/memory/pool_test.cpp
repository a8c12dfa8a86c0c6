#include "bitnet/memory/pool.h"

#include "bitnet/core/memory.h"
#include "fake_source.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr size_t kKiB = 1024, kMiB = 1024 * kKiB;

struct Piece {
  std::byte* begin;
  size_t bytes, alignment;
};

bool is_aligned(const void* pointer, size_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

/// Sizes beside every border of classes, slabs, pages and regions.
std::vector<size_t> border_sizes() {
  std::vector<size_t> sizes = {0, 1};
  for (const size_t border : {64ul, 1024ul, 2 * kKiB, 4 * kKiB, memory::kSmallLimit, 64 * kKiB, 512 * kKiB,
                              memory::kMediumLimit, 2 * kMiB, 64 * kMiB, 256 * kMiB}) {
    for (const size_t size : {border - 1, border, border + 1}) sizes.push_back(size);
  }
  return sizes;
}

TEST(SizeClass, IsTheSmallestThatFits) {
  for (uint32_t c = 0; c < memory::kClasses; ++c) {
    EXPECT_EQ(memory::class_bytes(c) % 64, 0u);
    EXPECT_EQ(memory::size_class(memory::class_bytes(c)), c);
    if (c > 0) {
      EXPECT_EQ(memory::size_class(memory::class_bytes(c - 1) + 1), c);
    }
  }
  EXPECT_EQ(memory::size_class(0), 0u);
}

TEST(Pool, ServesEverySizeAlignedAndDisjoint) {
  HybridMemoryPool pool;
  std::vector<Piece> pieces;
  for (const size_t bytes : border_sizes()) {
    for (int twice = 0; twice < 2; ++twice) {
      pieces.push_back({static_cast<std::byte*>(pool.allocate_raw(bytes)), bytes, 64});
      EXPECT_TRUE(is_aligned(pieces.back().begin, 64)) << bytes;
    }
  }
  std::ranges::sort(pieces, {}, &Piece::begin);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) {
      EXPECT_GE(pieces[i].begin, pieces[i - 1].begin + std::max<size_t>(1, pieces[i - 1].bytes));
    }
    if (pieces[i].bytes > 0) pieces[i].begin[0] = pieces[i].begin[pieces[i].bytes - 1] = std::byte{1};
  }
  for (const Piece& piece : pieces) pool.deallocate_raw(piece.begin, piece.bytes);
  pool.deallocate_raw(nullptr, 5);
  EXPECT_EQ(pool.stats().live_bytes, 0);
  EXPECT_EQ(pool.stats().live_blocks, 0);
  EXPECT_EQ(pool.stats().occupied_bytes, 0);
}

TEST(Pool, ServesEveryAlignmentUpTo4MiB) {
  HybridMemoryPool pool;
  for (size_t alignment = 1; alignment <= 4 * kMiB; alignment *= 2) {
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{100}, 5 * kKiB, 70 * kKiB, 3 * kMiB}) {
      std::vector<void*> blocks;
      for (int i = 0; i < 3; ++i) {
        blocks.push_back(pool.allocate_raw(bytes, alignment));
        EXPECT_TRUE(is_aligned(blocks.back(), alignment)) << alignment << " " << bytes;
        if (bytes != 0) std::memset(blocks.back(), 1, std::min<size_t>(bytes, 4096));
      }
      for (void* block : blocks) pool.deallocate_raw(block, bytes, alignment);
    }
  }
  EXPECT_EQ(pool.stats().occupied_bytes, 0);
  for (const size_t wrong : {size_t{0}, size_t{48}, size_t{96}, size_t{1000}, size_t{1} << 40}) {
    EXPECT_THROW((void)pool.allocate_raw(10, wrong), Error) << wrong;
  }
  EXPECT_THROW((void)pool.allocate(10, 0), Error);
}

TEST(Pool, SizesBeyondAllMemoryAreOutOfMemoryAndSayTheNumbers) {
  HybridMemoryPool pool;
  for (const size_t bytes : {size_t{1} << 45, size_t{1} << 62, ~size_t{0}}) {
    try {
      (void)pool.allocate_raw(bytes);
      FAIL() << bytes;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
      EXPECT_THAT(error.what(), testing::HasSubstr(std::to_string(bytes) + " bytes"));
    }
  }
  EXPECT_THROW((void)pool.allocate_typed<double>(~size_t{0} / 4), Error);
}

TEST(Pool, TheLimitHoldsAndFreeingMakesRoom) {
  HybridMemoryPool pool({.limit_bytes = 8 * kMiB});
  void* block = pool.allocate_raw(6 * kMiB);
  EXPECT_THROW((void)pool.allocate_raw(3 * kMiB), Error);
  pool.deallocate_raw(block, 6 * kMiB);
  // What small and medium free blocks occupy is given up before an allocation fails.
  std::vector<void*> small;
  for (int i = 0; i < 700; ++i) small.push_back(pool.allocate_raw(8 * kKiB));
  for (void* piece : small) pool.deallocate_raw(piece, 8 * kKiB);
  block = pool.allocate_raw(8 * kMiB);
  pool.deallocate_raw(block, 8 * kMiB);
}

TEST(Pool, ZeroedBlocksAreZeroFreshAndReused) {
  HybridMemoryPool pool;
  for (int round = 0; round < 3; ++round) {
    for (const size_t bytes : {size_t{1}, size_t{4096}, 20 * kKiB, 300 * kKiB, 3 * kMiB + 77}) {
      auto* block = static_cast<unsigned char*>(pool.allocate_zeroed_raw(bytes));
      EXPECT_EQ(std::count(block, block + bytes, 0), static_cast<std::ptrdiff_t>(bytes)) << bytes;
      std::memset(block, 0xff, bytes);
      pool.deallocate_raw(block, bytes);
    }
    if (round == 1) pool.trim();
  }
}

TEST(Pool, ZeroedBlocksMixFreshAndUsedPages) {
  HybridMemoryPool pool;
  void* used = pool.allocate_raw(2 * kMiB);
  std::memset(used, 0xff, 2 * kMiB);
  pool.deallocate_raw(used, 2 * kMiB);
  auto* block = static_cast<unsigned char*>(pool.allocate_zeroed_raw(5 * kMiB + 3));
  EXPECT_EQ(block, used);  // the merged range starts where the used pages are
  EXPECT_EQ(std::count(block, block + 5 * kMiB + 3, 0), static_cast<std::ptrdiff_t>(5 * kMiB + 3));
  pool.deallocate_raw(block, 5 * kMiB + 3);
}

TEST(Pool, HandlesKnowDoubleFreesStaleOnesAndStrangers) {
  HybridMemoryPool pool, other;
  const MemoryHandle first = pool.allocate(1000);
  EXPECT_TRUE(pool.is_live(first));
  pool.deallocate(first);
  EXPECT_FALSE(pool.is_live(first));
  const MemoryHandle second = pool.allocate(1000);
  EXPECT_EQ(second.pointer, first.pointer);  // the same memory, and yet:
  const auto message = [](HybridMemoryPool& in, const MemoryHandle& handle) -> std::string {
    try {
      in.deallocate(handle);
      return "freed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      return error.what();
    }
  };
  EXPECT_THAT(message(pool, first), testing::HasSubstr("freed before"));
  EXPECT_THAT(message(other, second), testing::HasSubstr("another pool"));
  EXPECT_THAT(message(pool, MemoryHandle{}), testing::HasSubstr("never allocated"));
  EXPECT_TRUE(pool.is_live(second));
  EXPECT_EQ(message(pool, second), "freed");
  EXPECT_THAT(message(pool, second), testing::HasSubstr("freed before"));
}

TEST(Pool, ArraysOfATypeGoBackByThemselves) {
  HybridMemoryPool pool;
  {
    PoolArray<double> array = pool.allocate_typed<double>(1000);
    std::iota(array.begin(), array.end(), 0.0);
    PoolArray<double> moved = std::move(array);
    EXPECT_EQ(array.data(), nullptr);  // NOLINT(bugprone-use-after-move): that is the question
    EXPECT_EQ(moved[999], 999.0);
    EXPECT_EQ(pool.stats().live_bytes, 8000);
    moved = pool.allocate_typed<double>(10);
    EXPECT_EQ(pool.stats().live_bytes, 80);
    EXPECT_NE(pool.allocate_typed<int>(0).data(), nullptr);
  }
  EXPECT_EQ(pool.stats().live_blocks, 0);
}

TEST(Pool, BlocksFreedByAnotherThreadComeHome) {
  HybridMemoryPool pool;
  for (int round = 0; round < 20; ++round) {
    std::vector<void*> blocks;
    for (int i = 0; i < 1000; ++i) blocks.push_back(pool.allocate_raw(1024));
    std::thread([&] {
      for (void* block : blocks) pool.deallocate_raw(block, 1024);
    }).join();
  }
  const PoolStats stats = pool.stats();
  EXPECT_EQ(stats.occupied_bytes, 0);
  EXPECT_EQ(stats.allocations, 20000u);
  EXPECT_LT(stats.peak_held_bytes, static_cast<int64_t>(1000 * 1024 * 1.2));
}

TEST(Pool, AThreadThatEndsGivesItsBlocksBack) {
  HybridMemoryPool pool;
  std::thread([&] {
    for (const size_t bytes : {size_t{100}, 8 * kKiB, 100 * kKiB, kMiB}) {
      pool.deallocate_raw(pool.allocate_raw(bytes), bytes);
    }
    EXPECT_GT(pool.stats().cached_bytes, 0);
  }).join();
  EXPECT_EQ(pool.stats().cached_bytes, 0);
  EXPECT_EQ(pool.stats().allocations, 4u);
  pool.trim();
  EXPECT_EQ(pool.stats().held_bytes, 0);
}

TEST(Pool, TrimReturnsRealBytesAndSaysHowMany) {
  HybridMemoryPool pool;
  void* keep = pool.allocate_raw(100);
  std::vector<void*> blocks;
  for (int i = 0; i < 64; ++i) {
    blocks.push_back(pool.allocate_raw(kMiB + 4096));
    std::memset(blocks.back(), 1, kMiB + 4096);
  }
  for (void* block : blocks) pool.deallocate_raw(block, kMiB + 4096);
  const int64_t held = pool.stats().held_bytes;
  EXPECT_GE(held, static_cast<int64_t>(64 * (kMiB + 4096)));
  const int64_t resident = process_memory().resident_bytes;
  const ReleaseReport report = pool.trim();
  EXPECT_GE(resident - process_memory().resident_bytes, report.released_bytes * 9 / 10);  // the system agrees
  EXPECT_EQ(report.held_before, held);
  EXPECT_EQ(report.released_bytes, held - report.held_after);
  EXPECT_LE(report.held_after, static_cast<int64_t>(128 * kKiB));  // the slab of `keep`
  EXPECT_GT(report.external_fragmentation_before, 0.9);
  EXPECT_EQ(pool.trim().released_bytes, 0);
  pool.deallocate_raw(keep, 100);
}

TEST(Pool, MorePoolsThanCacheSlotsWorkToo) {
  std::vector<std::unique_ptr<HybridMemoryPool>> pools;
  for (uint32_t i = 0; i < memory::kCacheSlots + 3; ++i)
    pools.push_back(std::make_unique<HybridMemoryPool>());
  for (auto& pool : pools) {
    void* block = pool->allocate_raw(100);
    std::memset(block, 1, 100);
    pool->deallocate_raw(block, 100);
    EXPECT_EQ(pool->stats().live_blocks, 0);
    EXPECT_EQ(pool->stats().allocations, 1u);
  }
}

TEST(Pool, ANewPoolInAnOldSlotStartsEmpty) {
  for (int i = 0; i < 100; ++i) {
    HybridMemoryPool pool;
    void* block = pool.allocate_raw(100);
    std::memset(block, i, 100);
    pool.deallocate_raw(block, 100);
    ASSERT_EQ(pool.stats().allocations, 1u);
  }
}

TEST(Pool, ADeviceSourceIsNeverTouchedAndGetsAllBack) {
  auto source = std::make_shared<FakeSource>(false, 100 * kMiB);
  {
    HybridMemoryPool pool(source, {});
    std::mt19937 random(1);  // NOLINT(bugprone-random-generator-seed): the same each time
    std::vector<std::pair<void*, size_t>> blocks;
    for (int i = 0; i < 2000; ++i) {
      if (blocks.size() > 60 || (!blocks.empty() && random() % 2 == 0)) {
        std::swap(blocks[random() % blocks.size()], blocks.back());
        pool.deallocate_raw(blocks.back().first, blocks.back().second);
        blocks.pop_back();
      } else {
        const size_t bytes = size_t{1} << (random() % 21);
        blocks.emplace_back(pool.allocate_raw(bytes), bytes);
      }
    }
    EXPECT_THROW((void)pool.allocate_raw(101 * kMiB), Error);
    EXPECT_EQ(pool.stats().held_bytes, static_cast<int64_t>(source->used()));
    for (const auto& [block, bytes] : blocks) pool.deallocate_raw(block, bytes);
    pool.trim();
    EXPECT_EQ(source->used(), 0u);
    (void)pool.allocate_raw(50 * kMiB);  // goes with the pool, which says so in the log
  }
  EXPECT_EQ(source->used(), 0u);
  EXPECT_EQ(source->wrong_unmaps(), 0);
}

TEST(Pool, InstancesAreOnePerDeviceAndNeedASource) {
  EXPECT_EQ(&HybridMemoryPool::instance(), &HybridMemoryPool::instance(kCpuDevice));
  static int32_t next = 3;  // a source is registered for good, also where the test is repeated
  const Device metal{DeviceType::kMetal, next++};
  try {
    (void)HybridMemoryPool::instance(metal);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), testing::HasSubstr(to_string(metal)));
  }
  HybridMemoryPool::register_source(metal, std::make_shared<FakeSource>());
  EXPECT_NE(&HybridMemoryPool::instance(metal), &HybridMemoryPool::instance());
  EXPECT_EQ(HybridMemoryPool::instance(metal).source().name(), "fake");
  EXPECT_THROW(HybridMemoryPool::register_source(metal, std::make_shared<FakeSource>()), Error);
  EXPECT_THROW(HybridMemoryPool::register_source(Device{DeviceType::kMlx, 0}, nullptr), Error);
}

TEST(Pool, StatisticsAreThoseOfTheBlocks) {
  HybridMemoryPool pool;
  void* a = pool.allocate_raw(1000);
  void* b = pool.allocate_raw(1025);
  void* c = pool.allocate_raw(3 * kMiB);
  PoolStats stats = pool.stats();
  EXPECT_EQ(stats.live_bytes, static_cast<int64_t>(2025 + 3 * kMiB));
  EXPECT_EQ(stats.occupied_bytes, static_cast<int64_t>(1024 + 1088 + 3 * kMiB));
  EXPECT_EQ(stats.live_blocks, 3);
  EXPECT_EQ(stats.size_histogram[10], 1u);
  EXPECT_EQ(stats.size_histogram[11], 1u);
  EXPECT_EQ(stats.size_histogram[22], 1u);
  EXPECT_EQ(stats.system_requests, 3u);
  EXPECT_GE(stats.held_bytes, stats.occupied_bytes + stats.cached_bytes);
  EXPECT_NEAR(stats.internal_fragmentation(), (24.0 + 63.0) / (3 * kMiB + 2112.0), 1e-12);
  pool.deallocate_raw(c, 3 * kMiB);
  pool.deallocate_raw(b, 1025);
  pool.deallocate_raw(a, 1000);
  for (int i = 0; i < 97; ++i) pool.deallocate_raw(pool.allocate_raw(3 * kMiB), 3 * kMiB);
  stats = pool.stats();
  EXPECT_EQ(stats.live_bytes, 0);
  EXPECT_EQ(stats.peak_live_bytes, static_cast<int64_t>(2025 + 3 * kMiB));
  EXPECT_DOUBLE_EQ(stats.success_rate(), 0.97);
}

}  // namespace
}  // namespace bitnet
