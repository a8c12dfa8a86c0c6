#pragma once

// Elements to and from the three types that between them hold every value exactly: the two halves of a
// conversion.

#include "bitnet/ops/convert.h"

#include <cstddef>

namespace bitnet::ops {

enum class WideType : uint8_t { kF64, kI64, kU64 };

/// 1024 elements in a type that holds them exactly.
struct WideBlock {
  static constexpr int64_t kElements = 1024;
  WideType type = WideType::kF64;
  union {
    double f64[kElements];
    int64_t i64[kElements];
    uint64_t u64[kElements];
  };
};

/// n <= kElements elements of `x`, from byte address `from` in steps of `stride` elements; of packed types
/// from element `index` of the tensor. `index` is the row-major index of the first, for its scale; `scaled`
/// asks for values rather than codes.
void load_wide(const Tensor& x, const std::byte* from, int64_t stride, int64_t index, int64_t n, bool scaled,
               WideBlock& block);

struct StoreOptions {
  Rounding rounding = Rounding::kNearestEven;
  Overflow overflow = Overflow::kThrow;
  uint64_t seed = 0;
  bool scaled = false;  ///< the block holds values, not codes
};
/// Rounds n elements into elements [index, index + n) of y, whose data begins at `data`. Packed types: index
/// is a multiple of 8.
void store_wide(const WideBlock& block, int64_t index, int64_t n, const StoreOptions& options,
                const Tensor& y, std::byte* data);

}  // namespace bitnet::ops
