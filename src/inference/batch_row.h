#pragma once

#include "inference/kv_cache.h"

#include <cstdint>

namespace bitnet {

/// One token of a batch. Its keys and values go to `position` of its sequence's cache. Rows of one sequence
/// follow one another in a batch, in order of position without gaps; rows of several sequences may share a
/// batch.
struct BatchRow {
  int32_t id;
  int64_t position;
  KvCache* cache;
};

}  // namespace bitnet
