#pragma once

#include "bitnet/ops/context.h"

#include <algorithm>

namespace bitnet::ops {

/// Below so many elements a fork costs more than it gives (threads/add of benchmarks/ops/tensor_performance).
inline constexpr int64_t kParallelElements = 1 << 18;

/// body(begin, end) over [0, count) in multiples of `grain`, on threads if `elements` in all are worth it.
template <class Body>
void parallel_for(const ExecutionContext& context, int64_t count, int64_t grain, int64_t elements,
                  Body&& body) {
  if (context.threads == 1 || elements < kParallelElements || count <= grain) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  ThreadPool& pool = context.thread_pool();
  if (context.threads == 0 || context.threads >= pool.size()) {
    pool.for_range(count, grain, body);
    return;
  }
  pool.run([&](int worker, int) {
    if (worker >= context.threads) return;
    const auto [begin, end] = ThreadPool::split(count, grain, worker, context.threads);
    if (begin < end) body(begin, end);
  });
}

}  // namespace bitnet::ops
