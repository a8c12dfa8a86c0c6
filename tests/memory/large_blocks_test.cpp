#include "memory/large_blocks.h"

#include "fake_source.h"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet::memory {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

std::byte* take(LargeBlocks& blocks, size_t bytes, size_t alignment = 64) {
  bool asked = false;
  return static_cast<std::byte*>(blocks.allocate(bytes, alignment, 0, asked));
}

TEST(PageBits, AgreeWithASetOfNumbers) {
  std::mt19937 random(7);  // NOLINT(bugprone-random-generator-seed)
  constexpr size_t pages = 300;
  PageBits bits(pages);
  std::set<size_t> expected;
  for (int round = 0; round < 500; ++round) {
    const size_t a = random() % (pages + 1), b = random() % (pages + 1);
    const size_t first = std::min(a, b), last = std::max(a, b);
    if (random() % 2 == 0) {
      const size_t before = expected.size();
      for (size_t i = first; i < last; ++i) expected.insert(i);
      EXPECT_EQ(bits.missing(first, last), expected.size() - before);
      EXPECT_EQ(bits.set(first, last), expected.size() - before);
    } else {
      for (size_t i = first; i < last; ++i) expected.erase(i);
      bits.clear(first, last);
    }
    std::set<size_t> found;
    size_t previous_end = pages + 1;
    bits.for_each_run(0, pages, [&](size_t begin, size_t end) {
      EXPECT_LT(begin, end);
      EXPECT_NE(begin, previous_end);  // runs are maximal
      previous_end = end;
      for (size_t i = begin; i < end; ++i) found.insert(i);
    });
    ASSERT_EQ(found, expected);
  }
}

TEST(LargeBlocks, TakeTheTightestHole) {
  const auto source = system_memory_source();
  LargeBlocks blocks(*source, 0);
  std::vector<std::byte*> all;
  for (const size_t mib : {4, 1, 2, 1, 3, 1}) all.push_back(take(blocks, mib * kMiB));
  for (const size_t i : {0, 2, 4}) EXPECT_NE(blocks.deallocate(all[i]), 0u);  // holes of 4, 2 and 3 MiB
  EXPECT_EQ(take(blocks, 2 * kMiB - 100), all[2]);
  EXPECT_EQ(take(blocks, 2 * kMiB + 512), all[4]);
  EXPECT_EQ(take(blocks, 3 * kMiB + 512), all[0]);
}

TEST(LargeBlocks, MergeWithBothNeighboursInAnyOrderOfFreeing) {
  std::vector<int> order = {0, 1, 2};
  do {
    const auto source = system_memory_source();
    LargeBlocks blocks(*source, 0);
    std::vector<std::byte*> three;
    for (int i = 0; i < 3; ++i) three.push_back(take(blocks, kMiB));
    std::byte* wall = take(blocks, kMiB);
    for (const int i : order) EXPECT_EQ(blocks.deallocate(three[static_cast<size_t>(i)]), kMiB);
    EXPECT_EQ(take(blocks, 3 * kMiB), three[0]);  // one hole, of exactly that size
    EXPECT_EQ(blocks.deallocate(wall), kMiB);
    EXPECT_EQ(blocks.deallocate(three[0]), 3 * kMiB);
    const LargeStats stats = blocks.stats();
    EXPECT_EQ(stats.largest_free, stats.reserved);  // one block is left: the region
  } while (std::ranges::next_permutation(order).found);
}

TEST(LargeBlocks, RandomUseNeverOverlapsAndEndsInOneFreeRange) {
  for (const bool lazy : {true, false}) {
    const std::shared_ptr<MemorySource> source =
        lazy ? system_memory_source() : std::make_shared<FakeSource>(false, 400 * kMiB);
    LargeBlocks blocks(*source, 0);
    std::mt19937 random(3);  // NOLINT(bugprone-random-generator-seed)
    std::vector<std::pair<std::byte*, size_t>> live;
    int64_t used = 0;
    for (int i = 0; i < 4000; ++i) {
      if (live.size() > 80 || (!live.empty() && random() % 2 == 0)) {
        std::swap(live[random() % live.size()], live.back());
        used -= static_cast<int64_t>(blocks.deallocate(live.back().first));
        EXPECT_EQ(blocks.deallocate(live.back().first), 0u);  // twice is noticed
        live.pop_back();
      } else {
        const size_t bytes = 1 + random() % (size_t{1} << (10 + random() % 12));
        const size_t alignment = size_t{1} << (6 + random() % 12);
        std::byte* begin = take(blocks, bytes, alignment);
        ASSERT_NE(begin, nullptr);
        ASSERT_EQ(reinterpret_cast<uintptr_t>(begin) % alignment, 0u);
        for (const auto& [other, size] : live) ASSERT_TRUE(begin + bytes <= other || other + size <= begin);
        live.emplace_back(begin, bytes);
        used += static_cast<int64_t>((bytes + kGranule - 1) / kGranule * kGranule);
      }
      if (i % 500 == 0) blocks.release();
      const LargeStats stats = blocks.stats();
      ASSERT_EQ(stats.used, used);
      ASSERT_GE(stats.held, used);
      ASSERT_LE(stats.held, stats.reserved);
    }
    for (const auto& [begin, bytes] : live) blocks.deallocate(begin);
    blocks.release();
    EXPECT_EQ(blocks.stats().held, 0);
    EXPECT_EQ(blocks.stats().reserved, 0);
  }
}

TEST(LargeBlocks, UnusedPagesGoBackBeforeMoreIsHeldThanEver) {
  const auto source = system_memory_source();
  LargeBlocks blocks(*source, 0);
  std::vector<std::byte*> all;
  for (int i = 0; i < 64; ++i) all.push_back(take(blocks, kMiB));
  for (size_t i = 0; i < 64; i += 2) blocks.deallocate(all[i]);  // 32 holes that fit nothing larger
  EXPECT_EQ(blocks.stats().held, static_cast<int64_t>(64 * kMiB));
  ASSERT_NE(take(blocks, 16 * kMiB), nullptr);
  const LargeStats stats = blocks.stats();
  EXPECT_EQ(stats.used, static_cast<int64_t>(48 * kMiB));
  EXPECT_EQ(stats.held, stats.used);
}

TEST(LargeBlocks, WhatIsHeldIsTakenBeforeFreshPages) {
  const auto source = system_memory_source();
  for (const bool first_freed_last : {true, false}) {
    LargeBlocks blocks(*source, 0);
    std::byte* much = take(blocks, 250 * kMiB);
    std::byte* little = take(blocks, 8 * kMiB);  // in a region of its own
    blocks.deallocate(first_freed_last ? little : much);
    blocks.deallocate(first_freed_last ? much : little);
    bool asked = false;
    EXPECT_EQ(blocks.allocate(100 * kMiB, 64, 0, asked), much);
    EXPECT_FALSE(asked);
    EXPECT_EQ(blocks.allocate(150 * kMiB, 64, 0, asked), much + 100 * kMiB);
    EXPECT_EQ(blocks.allocate(8 * kMiB, 64, 0, asked), little);
    EXPECT_FALSE(asked);
  }
}

}  // namespace
}  // namespace bitnet::memory
