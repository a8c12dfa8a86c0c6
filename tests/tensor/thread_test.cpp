// Tensors, their pool and the copy tracker used by many threads at once; run under ThreadSanitizer by `make
// tsan`.
#include "bitnet/memory/pool.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"

#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace bitnet {
namespace {

constexpr int kThreads = 4;
constexpr int kRounds = 300;

template <class Body>
void on_threads(Body&& body) {
  std::vector<std::thread> team;
  for (int t = 0; t < kThreads; ++t) team.emplace_back([&body, t] { body(t); });
  for (std::thread& thread : team) thread.join();
}

TEST(TensorThreads, ShareOneTensorAndItsViews) {
  const Tensor shared = arange(0, 1000).reshape({10, 100});
  on_threads([&](int t) {
    for (int i = 0; i < kRounds; ++i) {
      const Tensor row = shared.select(0, (t + i) % 10);
      const Tensor copy = contiguous(shared.transpose(0, 1));
      ASSERT_EQ(row.at({7}), 100 * ((t + i) % 10) + 7);
      ASSERT_EQ(copy.at({3, 2}), 203);
    }
  });
  EXPECT_EQ(shared.storage()->references.load(), 1);
}

TEST(TensorThreads, TensorsMadeOnOneThreadDieOnAnother) {
  std::mutex lock;
  std::vector<Tensor> exchange;
  on_threads([&](int t) {
    for (int i = 0; i < kRounds; ++i) {
      Tensor made = full({1 + (t * 131 + i * 17) % 5000}, t * kRounds + i);
      Tensor taken;
      {
        const std::lock_guard guard(lock);
        exchange.push_back(std::move(made));
        if (exchange.size() > 20) {
          taken = std::move(exchange[static_cast<size_t>(i) % exchange.size()]);
          exchange[static_cast<size_t>(i) % exchange.size()] = std::move(exchange.back());
          exchange.pop_back();
        }
      }
      if (!taken.defined()) continue;
      const auto values = taken.values<float>();
      ASSERT_EQ(std::accumulate(values.begin(), values.end(), 0.0),
                values[0] * static_cast<double>(values.size()));
      if (i % 50 == 0) (void)HybridMemoryPool::instance().trim();
      ASSERT_GE(HybridMemoryPool::instance().stats().held_bytes, 0);
    }
  });
}

TEST(TensorThreads, TheTrackerMissesNothing) {
  const Tensor x = zeros({4, 4});
  CopyTracker::reset();
  on_threads([&](int) {
    for (int i = 0; i < kRounds; ++i) {
      (void)clone(x);
      const CopyCounts seen = CopyTracker::totals();
      ASSERT_LE(seen.copies, seen.operations);
    }
  });
  const CopyCounts counts = CopyTracker::totals();
  EXPECT_EQ(counts.operations, static_cast<uint64_t>(kThreads * kRounds));
  EXPECT_EQ(counts.copied_bytes, static_cast<uint64_t>(kThreads * kRounds * 64));
}

}  // namespace
}  // namespace bitnet
