#pragma once

#include "bitnet/core/memory.h"
#include "bitnet/core/thread_pool.h"
#include "kernels/kernel_table.h"

#include <cstdint>

namespace bitnet {

/// The kernels and threads that a forward pass runs on.
struct Executor {
  const kernels::KernelTable& table;
  ThreadPool& pool;

  /// body(token) for every token, in parallel if there are several, a thread `least` in a row or more.
  template <class Body>
  void for_tokens(int64_t tokens, Body&& body, int64_t least = 1) const {
    if (tokens == 1) {
      body(int64_t{0});
      return;
    }
    pool.for_pieces(tokens, least, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) body(t);
    });
  }
};

constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Scratch for a whole batch, of which decoding touches one token's part.
template <class T>
AlignedBuffer scratch(int64_t count) {
  return AlignedBuffer(static_cast<size_t>(count) * sizeof(T), HugePages::kAvoided);
}

}  // namespace bitnet
