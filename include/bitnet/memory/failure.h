#pragma once

#include "bitnet/memory/pool.h"

#include <cstdint>
#include <string>

namespace bitnet {

/// For tests: runs `body` again and again, making its 1st, 2nd, 3rd ... allocation from the pool fail, until
/// it runs without meeting the failure. After each run the pool must hold as many live blocks and bytes as
/// before. Returns how many failures were met: the body's allocations. Throws kInternal if a run leaked, and
/// what the body throws besides kOutOfMemory. No other thread may use the pool meanwhile.
template <class Body>
uint64_t fail_each_allocation(HybridMemoryPool& pool, Body&& body) {
  for (uint64_t n = 1;; ++n) {
    const PoolStats before = pool.stats();
    pool.fail_allocation(n);
    try {
      body();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kOutOfMemory) {
        pool.fail_allocation(0);
        throw;
      }
    }
    const bool met = pool.fail_allocation(0) == 0;
    const PoolStats after = pool.stats();
    if (after.live_blocks != before.live_blocks || after.live_bytes != before.live_bytes) {
      throw Error(ErrorCode::kInternal, "failing allocation " + std::to_string(n) + " leaks " +
                                            std::to_string(after.live_blocks - before.live_blocks) +
                                            " blocks, " +
                                            std::to_string(after.live_bytes - before.live_bytes) + " bytes");
    }
    if (!met) return n - 1;
  }
}

}  // namespace bitnet
