#include "kernels/measure/read_speed.h"

#include "bitnet/core/error.h"
#include "bitnet/core/memory.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include <unistd.h>

namespace bitnet::kernels {
namespace {

// A thread reads its part as this many streams side by side, each this far ahead of itself: which pair is the
// fastest depends on the processor's prefetchers.
struct ReadWay {
  int streams;
  int64_t prefetch_bytes;
};
constexpr ReadWay kWays[] = {{1, 0}, {1, 1024}, {1, 4096}, {4, 0}, {4, 1024}};
constexpr int kPasses = 3;
constexpr int64_t kLine = 64, kLineWords = kLine / 8;
constexpr int64_t kGrain = 4 * 4096;  // a thread's part: whole pages in each of four streams

/// Sum of the words of one cache line.
uint64_t add_line(const uint64_t* line, uint64_t (&sums)[kLineWords]) {
  for (int64_t i = 0; i < kLineWords; ++i) sums[i] += line[i];
  return sums[0];
}

uint64_t read_words(const uint64_t* words, int64_t count, ReadWay way) {
  uint64_t sums[kLineWords] = {};
  const int64_t stream_words = count / way.streams;
  const char* ahead = reinterpret_cast<const char*>(words) + way.prefetch_bytes;
  for (int64_t i = 0; i < stream_words; i += kLineWords) {
    for (int stream = 0; stream < way.streams; ++stream) {
      const int64_t word = stream * stream_words + i;
      if (way.prefetch_bytes > 0) __builtin_prefetch(ahead + word * 8);
      add_line(words + word, sums);
    }
  }
  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace

double measure_read_speed(ThreadPool& pool, int64_t bytes) {
  bytes = std::max(bytes / kGrain, int64_t{pool.size()}) * kGrain;
  AlignedBuffer buffer(static_cast<size_t>(bytes));
  auto* words = buffer.as<uint64_t>();
  const int64_t count = bytes / 8, grain = kGrain / 8;
  pool.for_range(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) words[i] = static_cast<uint64_t>(i);
  });
  const auto expected = static_cast<uint64_t>(count) * static_cast<uint64_t>(count - 1) / 2;
  double best = 0;
  for (const ReadWay& way : kWays) {
    for (int pass = 0; pass < kPasses; ++pass) {
      std::atomic<uint64_t> sum = 0;
      const auto start = std::chrono::steady_clock::now();
      pool.for_range(count, grain, [&](int64_t begin, int64_t end) {
        sum.fetch_add(read_words(words + begin, end - begin, way), std::memory_order_relaxed);
      });
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      if (sum != expected) throw Error(ErrorCode::kInternal, "measure_machine: a sum of words read is wrong");
      best = std::max(best, static_cast<double>(bytes) / elapsed.count());
    }
  }
  return best;
}

int64_t default_read_bytes() {
  constexpr int64_t kLeast = int64_t{256} << 20;
  int64_t cache = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  cache = std::max<int64_t>(sysconf(_SC_LEVEL3_CACHE_SIZE), 0);
#endif
  const int64_t memory = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  return std::min(std::max(4 * cache, kLeast), memory / 4);
}

}  // namespace bitnet::kernels
