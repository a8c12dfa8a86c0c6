#include "bitnet/core/log.h"
#include "bitnet/memory/failure.h"
#include "bitnet/memory/pool.h"

#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace bitnet {
namespace {

using testing::HasSubstr;

PoolOptions with(TrackingLevel level, size_t events = 1000) {
  return {.tracking = level, .timeline_events = events};
}

TEST(Tracking, OffKnowsWhatThePoolHoldsAndNoMore) {
  HybridMemoryPool pool(with(TrackingLevel::kOff));
  void* block = pool.allocate_raw(1000);
  const PoolStats stats = pool.stats();
  EXPECT_EQ(stats.occupied_bytes, 1024);
  EXPECT_GE(stats.held_bytes, 1024);
  EXPECT_EQ(stats.allocations, 0u);
  EXPECT_THROW(pool.set_tracking(TrackingLevel::kDetailed), Error);
  EXPECT_THROW(LeakScope{pool}, Error);
  EXPECT_THROW((void)pool.leak_candidates(0), Error);
  pool.deallocate_raw(block, 1000);
}

TEST(Tracking, ThePeakIsExactFromDetailedUp) {
  HybridMemoryPool pool(with(TrackingLevel::kDetailed));
  std::vector<void*> blocks;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 10; ++i) blocks.push_back(pool.allocate_raw(100));
    for (void* block : blocks) pool.deallocate_raw(block, 100);
    blocks.clear();
  }
  EXPECT_EQ(pool.stats().peak_live_bytes, 1000);
  EXPECT_EQ(pool.stats().live_bytes, 0);
}

TEST(Tracking, TheStandardPeakIsWithinWhatAThreadKeeps) {
  HybridMemoryPool pool;
  std::vector<void*> blocks;
  for (int i = 0; i < 10000; ++i) blocks.push_back(pool.allocate_raw(1000));
  for (void* block : blocks) pool.deallocate_raw(block, 1000);
  EXPECT_LE(pool.stats().peak_live_bytes, 10'000'000);
  EXPECT_GE(pool.stats().peak_live_bytes, 10'000'000 - (2 << 20));
}

TEST(Tracking, TagsAreCountedEach) {
  HybridMemoryPool pool(with(TrackingLevel::kDetailed));
  const MemoryHandle tagged = pool.allocate(500, 64, "weights");
  void* inner = nullptr;
  {
    const MemoryTag scope("attention");
    inner = pool.allocate_raw(100);
    {
      const MemoryTag nested("softmax");
      pool.deallocate_raw(pool.allocate_raw(3 << 20), 3 << 20);
    }
    EXPECT_EQ(MemoryTag::current(), "attention");
  }
  const std::vector<TagStats> tags = pool.tag_stats();
  ASSERT_EQ(tags.size(), 3u);
  EXPECT_EQ(tags[0].tag, "weights");
  EXPECT_EQ(tags[0].live_bytes, 500);
  EXPECT_EQ(tags[1].tag, "attention");
  EXPECT_EQ(tags[1].live_blocks, 1);
  EXPECT_EQ(tags[2].tag, "softmax");
  EXPECT_EQ(tags[2].live_bytes, 0);
  EXPECT_EQ(tags[2].peak_bytes, 3 << 20);
  EXPECT_EQ(tags[2].allocations, 1u);
  pool.deallocate(tagged);
  pool.deallocate_raw(inner, 100);
}

TEST(Tracking, AScopeReportsExactlyWhatItLeaks) {
  HybridMemoryPool pool(with(TrackingLevel::kDetailed));
  void* before = pool.allocate_raw(64);
  const LeakScope scope(pool);
  EXPECT_TRUE(scope.report().empty());
  void* leaked = nullptr;
  {
    const MemoryTag tag("forgotten");
    leaked = pool.allocate_raw(777);
  }
  pool.deallocate_raw(pool.allocate_raw(10), 10);
  const LeakReport report = scope.report();
  ASSERT_EQ(report.records.size(), 1u);
  EXPECT_EQ(report.bytes, 777);
  EXPECT_EQ(report.records[0].address, leaked);
  EXPECT_EQ(report.records[0].tag, "forgotten");
  EXPECT_THAT(report.to_string(), HasSubstr("777 bytes"));
  pool.deallocate_raw(leaked, 777);
  EXPECT_TRUE(scope.report().empty());
  pool.deallocate_raw(before, 64);
}

TEST(Tracking, OldBlocksAreLeakCandidates) {
  HybridMemoryPool pool(with(TrackingLevel::kDetailed));
  void* old = pool.allocate_raw(20);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  void* young = pool.allocate_raw(10);
  const LeakReport all = pool.leak_candidates(0);  // largest first
  ASSERT_EQ(all.records.size(), 2u);
  EXPECT_EQ(all.records[0].address, old);
  EXPECT_GE(all.records[0].age_seconds, all.records[1].age_seconds + 0.02);
  EXPECT_GE(pool.leak_candidates(0.02).blocks, 1);
  EXPECT_EQ(pool.leak_candidates(3600).blocks, 0);
  pool.deallocate_raw(old, 20);
  pool.deallocate_raw(young, 10);
}

TEST(Tracking, DebugKeepsTheStack) {
  HybridMemoryPool pool(with(TrackingLevel::kDebug));
  void* block = pool.allocate_raw(10);
  EXPECT_GT(pool.live_blocks().records.at(0).stack.size(), 2u);
  pool.set_tracking(TrackingLevel::kDetailed);
  void* other = pool.allocate_raw(20);
  EXPECT_TRUE(pool.live_blocks().records.at(0).stack.empty());
  pool.deallocate_raw(block, 10);
  pool.deallocate_raw(other, 20);
}

TEST(Tracking, RaisedLaterItCountsOnFromWhatIsLive) {
  HybridMemoryPool pool;
  void* untracked = pool.allocate_raw(1000);
  pool.set_tracking(TrackingLevel::kDetailed);
  void* tracked = pool.allocate_raw(500);
  EXPECT_EQ(pool.live_blocks().blocks, 1);
  EXPECT_EQ(pool.stats().peak_live_bytes, 1500);
  pool.deallocate_raw(untracked, 1000);
  pool.deallocate_raw(tracked, 500);
  EXPECT_EQ(pool.stats().live_bytes, 0);
  pool.set_tracking(TrackingLevel::kStandard);
  pool.deallocate_raw(pool.allocate_raw(5), 5);
  EXPECT_EQ(pool.stats().live_bytes, 0);
}

TEST(Tracking, TheTimelineIsBoundedAndValidJson) {
  HybridMemoryPool pool(with(TrackingLevel::kDetailed, 10));
  const MemoryTag tag("quote \" and \xff byte");
  for (size_t i = 0; i < 20; ++i) pool.deallocate_raw(pool.allocate_raw(i), i);
  const nlohmann::json timeline = nlohmann::json::parse(pool.timeline_json());
  EXPECT_EQ(timeline["dropped"], 30);
  ASSERT_EQ(timeline["events"].size(), 10u);
  EXPECT_EQ(timeline["events"][0]["kind"], "allocate");
  EXPECT_EQ(timeline["events"][0]["bytes"], 15);
  EXPECT_EQ(timeline["events"][9]["kind"], "free");
  EXPECT_EQ(timeline["events"][9]["bytes"], 19);
  EXPECT_EQ(timeline["events"][9]["live_bytes"], 0);
  double previous = 0;
  for (const auto& event : timeline["events"]) {
    EXPECT_GE(event["time_us"].get<double>(), previous);
    previous = event["time_us"].get<double>();
  }
  const nlohmann::json trace = nlohmann::json::parse(pool.timeline_chrome_trace());
  EXPECT_EQ(trace["traceEvents"].size(), 20u);
  EXPECT_EQ(trace["traceEvents"][0]["ph"], "C");
}

TEST(Tracking, APoolThatEndsWithLiveBlocksSaysSoInTheLog) {
  std::string logged;
  set_log_callback([&logged](LogLevel, std::string_view message) { logged += message; });
  {
    HybridMemoryPool pool(with(TrackingLevel::kDetailed));
    const MemoryTag tag("lost");
    (void)pool.allocate_raw(4321);
  }
  set_log_callback(nullptr, LogLevel::kOff);
  EXPECT_THAT(logged, HasSubstr("4321 bytes"));
  EXPECT_THAT(logged, HasSubstr("\"lost\""));
}

TEST(Tracking, FreeingALargeBlockTwiceIsLoggedAndLeftAlone) {
  std::string logged;
  set_log_callback([&logged](LogLevel, std::string_view message) { logged += message; });
  HybridMemoryPool pool;
  void* block = pool.allocate_raw(2 << 20);
  pool.deallocate_raw(block, 2 << 20);
  pool.deallocate_raw(block, 2 << 20);
  set_log_callback(nullptr, LogLevel::kOff);
  EXPECT_THAT(logged, HasSubstr("twice"));
  EXPECT_EQ(pool.stats().occupied_bytes, 0);
}

TEST(Failure, TheNthAllocationFailsAndOnlyThat) {
  HybridMemoryPool pool;
  pool.fail_allocation(3);
  std::vector<void*> blocks;
  for (int i = 1; i <= 5; ++i) {
    if (i == 3) {
      EXPECT_THROW((void)pool.allocate_raw(100), Error);
    } else {
      blocks.push_back(pool.allocate_raw(100));
    }
  }
  EXPECT_EQ(pool.fail_allocation(7), 0u);
  EXPECT_EQ(pool.fail_allocation(0), 7u);
  for (void* block : blocks) pool.deallocate_raw(block, 100);
}

TEST(Failure, OneOfManyThreadsMeetsIt) {
  HybridMemoryPool pool;
  pool.fail_allocation(500);
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i) {
        try {
          pool.deallocate_raw(pool.allocate_raw(100), 100);
        } catch (const Error&) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 1);
}

TEST(Failure, EveryErrorPathOfABodyIsTriedAndLeaksAreFound) {
  HybridMemoryPool pool;
  const auto clean = [&pool] {
    const auto a = pool.allocate_typed<int>(10);
    const auto b = pool.allocate_typed<double>(100000);
    const MemoryHandle c = pool.allocate(10);
    pool.deallocate(c);
  };
  EXPECT_EQ(fail_each_allocation(pool, clean), 3u);
  const auto leaking = [&pool] {
    void* a = pool.allocate_raw(10);
    pool.deallocate_raw(pool.allocate_raw(20), 20);  // if this fails, `a` is lost
    pool.deallocate_raw(a, 10);
  };
  try {
    fail_each_allocation(pool, leaking);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("failing allocation 2 leaks 1 blocks, 10 bytes"));
  }
}

}  // namespace
}  // namespace bitnet
