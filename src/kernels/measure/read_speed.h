#pragma once

#include "bitnet/core/thread_pool.h"

#include <cstdint>

namespace bitnet::kernels {

/// Bytes per second at which all threads of the pool together read `bytes` bytes (rounded down to whole pages
/// per thread) that each thread wrote itself: the best of several ways and passes. Throws kInternal if a sum
/// is wrong.
[[nodiscard]] double measure_read_speed(ThreadPool& pool, int64_t bytes);

/// Four times the last-level cache, at least 256 MiB, at most a quarter of the machine's memory.
[[nodiscard]] int64_t default_read_bytes();

}  // namespace bitnet::kernels
