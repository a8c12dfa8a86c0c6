#include "bitnet/core/thread_pool.h"

#include "bitnet/core/error.h"

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

class ThreadPoolSizes : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolSizes, EveryWorkerRunsOnceAJob) {
  ThreadPool pool(GetParam());
  for (int job = 0; job < 200; ++job) {
    std::vector<std::atomic<int>> calls(static_cast<size_t>(pool.size()));
    pool.run([&](int worker, int workers) {
      EXPECT_EQ(workers, pool.size());
      ++calls[static_cast<size_t>(worker)];
    });
    for (const auto& count : calls) EXPECT_EQ(count, 1);
  }
}

TEST_P(ThreadPoolSizes, RangesCoverEveryIndexOnce) {
  ThreadPool pool(GetParam());
  for (const int64_t count : {0, 1, 7, 16, 100, 1000}) {
    for (const int64_t grain : {1, 3, 16}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
      pool.for_range(count, grain, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % grain, 0);
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      for (const auto& hit : hits) EXPECT_EQ(hit, 1);
    }
  }
}

TEST_P(ThreadPoolSizes, PiecesCoverEveryIndexOnceAndRiseForEachWorker) {
  ThreadPool pool(GetParam());
  for (const int64_t count : {0, 1, 15, 16, 17, 240, 1000, 4096}) {
    for (const int64_t least : {1, 2, 16, 512}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
      std::vector<int64_t> end_of(static_cast<size_t>(pool.size()), 0);
      std::atomic<int> wrong{0};
      pool.for_pieces(count, least, [&](int64_t begin, int64_t end, int worker) {
        int64_t& before = end_of[static_cast<size_t>(worker)];
        const bool good = before <= begin && begin < end && end <= count && begin % least == 0 &&
                          (end % least == 0 || end == count);
        wrong += good ? 0 : 1;
        before = end;
        for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
      });
      EXPECT_EQ(wrong, 0) << count << " by " << least;
      for (const auto& n : seen) ASSERT_EQ(n, 1) << count << " by " << least;
    }
  }
}

TEST_P(ThreadPoolSizes, ANestedRunStaysOnItsThread) {
  ThreadPool pool(GetParam());
  std::atomic<int> inner{0};
  pool.run([&](int, int) {
    const auto self = std::this_thread::get_id();
    pool.run([&](int worker, int workers) {
      EXPECT_EQ(worker, 0);
      EXPECT_EQ(workers, 1);
      EXPECT_EQ(std::this_thread::get_id(), self);
      ++inner;
    });
  });
  EXPECT_EQ(inner, pool.size());
}

TEST_P(ThreadPoolSizes, AnExceptionReachesTheCallerAndThePoolLivesOn) {
  ThreadPool pool(GetParam());
  const int thrower = pool.size() - 1;
  EXPECT_THROW(pool.run([&](int worker, int) {
    if (worker == thrower) throw std::runtime_error("task");
  }),
               std::runtime_error);
  int sum = 0;
  std::mutex mutex;
  pool.run([&](int, int) {
    const std::lock_guard lock(mutex);
    ++sum;
  });
  EXPECT_EQ(sum, pool.size());
}

// 64: far more than any test machine has.
INSTANTIATE_TEST_SUITE_P(Counts, ThreadPoolSizes, ::testing::Values(1, 2, 3, 64));

TEST(ThreadPool, OthersTakeThePiecesOfASlowWorker) {
  ThreadPool pool(3);
  std::atomic<int64_t> done{0};
  constexpr int64_t kCount = 600, kDealt = 100;
  pool.for_pieces(kCount, 1, [&](int64_t begin, int64_t end, int worker) {
    // Worker 0 ends its first piece only when all else is done.
    while (worker == 0 && done.load() < kCount - kDealt) std::this_thread::yield();
    done += end - begin;
  });
  EXPECT_EQ(done, kCount);
}

TEST(ThreadPool, JobsFromSeveralThreadsQueueUp) {
  ThreadPool pool(3);
  std::atomic<int> calls{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int job = 0; job < 100; ++job) pool.run([&](int, int) { ++calls; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(calls, 4 * 100 * 3);
}

TEST(ThreadPool, SleepingWorkersWakeUp) {
  ThreadPool pool(2);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far beyond the spinning
    std::atomic<int> calls{0};
    pool.run([&](int, int) { ++calls; });
    EXPECT_EQ(calls, 2);
  }
}

TEST(ThreadPool, ZeroMeansTheMachineAndNonsenseIsRefused) {
  EXPECT_EQ(ThreadPool(0).size(), ThreadPool::available());
  EXPECT_GE(ThreadPool::available(), 1);
  EXPECT_THROW(ThreadPool(-1), Error);
  EXPECT_THROW(ThreadPool(1 << 20), Error);
}

}  // namespace
}  // namespace bitnet
