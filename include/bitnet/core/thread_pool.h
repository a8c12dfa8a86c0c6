#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace bitnet {

/// A team of threads for fork and join at microsecond latency: workers spin for a short while after each job
/// and then sleep. The calling thread is worker 0. See benchmarks/core for the comparison with OpenMP.
///
/// run() may be called from several threads (calls queue up) and from inside a task (a nested call runs its
/// task on the calling thread alone, as task(0, 1)). A count larger than the machine's is allowed; the
/// workers then sleep instead of spinning. The first exception thrown by a task is rethrown by run() after
/// all have finished.
class ThreadPool {
 public:
  /// threads = 0: as many as this process may use (affinity mask and cgroup quota respected).
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const;

  /// Calls task(worker, workers) once for each worker in [0, workers) and returns when all are done.
  template <class Task>
  void run(Task&& task) {
    using Plain = std::remove_reference_t<Task>;
    run_erased(
        [](void* context, int worker, int workers) { (*static_cast<Plain*>(context))(worker, workers); },
        const_cast<void*>(static_cast<const void*>(&task)));
  }

  /// Splits [0, count) into one contiguous range per worker, each a multiple of `grain` (but the last), and
  /// calls body(begin, end) on the non-empty ones.
  template <class Body>
  void for_range(int64_t count, int64_t grain, Body&& body) {
    run([&](int worker, int workers) {
      const auto [begin, end] = split(count, grain, worker, workers);
      if (begin < end) body(begin, end);
    });
  }

  /// Calls body(begin, end, worker) on disjoint pieces that cover [0, count), each a multiple of `least` but
  /// the last: half of the range is dealt out in equal pieces, the rest taken by whoever is done, in ever
  /// smaller ones. For work whose pieces take unequal time, and for processors of unequal speed, as virtual
  /// ones are that share a core with a stranger. A worker's pieces come in ascending order.
  template <class Body>
  void for_pieces(int64_t count, int64_t least, Body&& body) {
    std::atomic<int64_t> next{piece(count, least, size()) * size()};
    run([&](int worker, int workers) {
      if (workers == 1) {
        if (count > 0) body(int64_t{0}, count, worker);
        return;
      }
      const int64_t dealt = piece(count, least, workers);
      if (dealt > 0) body(worker * dealt, (worker + 1) * dealt, worker);
      for (int64_t begin = next.load(std::memory_order_relaxed); begin < count;) {
        const int64_t rest = count - begin, wanted = piece(rest, least, workers);
        const int64_t end = begin + (wanted > 0 ? wanted : rest < least ? rest : least);
        if (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
        body(begin, end, worker);
        begin = next.load(std::memory_order_relaxed);
      }
    });
  }

  struct Range {
    int64_t begin, end;
  };
  /// The share of worker `worker`: ranges are disjoint, in order, cover [0, count), and differ by at most a
  /// grain.
  [[nodiscard]] static Range split(int64_t count, int64_t grain, int worker, int workers);

  /// Threads that this process may use.
  [[nodiscard]] static int available();

 private:
  /// A worker's share of half of `count`, in multiples of `least`.
  static int64_t piece(int64_t count, int64_t least, int workers) {
    return count / (2 * workers * least) * least;
  }

  using Call = void (*)(void* context, int worker, int workers);
  void run_erased(Call call, void* context);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bitnet
