#pragma once

#include "bitnet/core/dtype.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace bitnet {

/// A dense matrix [rows, cols] as in the file.
struct DenseMatrix {
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0, row_bytes = 0;
  std::span<const std::byte> bytes;

  [[nodiscard]] std::span<const std::byte> row(int64_t index) const {
    return bytes.subspan(static_cast<size_t>(index * row_bytes), static_cast<size_t>(row_bytes));
  }
};

}  // namespace bitnet
