#pragma once

#include "bitnet/core/memory.h"
#include "bitnet/quant/block_formats.h"
#include "cuda_test.h"

namespace bitnet::cuda {

inline constexpr DType kDenseTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,
                                        DType::kQ8_0, DType::kQ4_0, DType::kQ6_K};

/// A dense matrix with rows padded as on the GPU, and its decoded values.
struct Dense {
  int64_t rows, cols, row_bytes;
  std::vector<std::byte> bytes;
  std::vector<float> values;

  Dense(Random& random, DType dtype, int64_t row_count, int64_t col_count)
      : rows(row_count), cols(col_count) {
    const DTypeInfo& info = dtype_info(dtype);
    const int64_t stored = cols / info.block_elements * info.block_bytes;
    row_bytes = (stored + 63) / 64 * 64;
    bytes.resize(static_cast<size_t>(rows * row_bytes));
    values.resize(static_cast<size_t>(rows * cols));
    for (int64_t r = 0; r < rows; ++r) {
      const auto row =
          std::span(bytes).subspan(static_cast<size_t>(r * row_bytes), static_cast<size_t>(stored));
      quantize_row(dtype, random_floats(random, cols), row);
      dequantize_row(dtype, row,
                     std::span(values).subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols)));
    }
  }
};

inline int64_t some_cols(DType dtype) {
  return dtype_info(dtype).block_elements == 1 ? 131 : dtype_info(dtype).block_elements * 3;
}

/// dense_matmul of the scalar table.
inline std::vector<float> logits(const Dense& dense, DType dtype, std::span<const float> x, int64_t tokens) {
  const int64_t stride = (dense.cols + 15) / 16 * 16;
  AlignedBuffer aligned(static_cast<size_t>(tokens * stride) * sizeof(float));
  for (int64_t t = 0; t < tokens; ++t)
    std::copy_n(x.begin() + t * dense.cols, dense.cols, aligned.as<float>() + t * stride);
  std::vector<float> y(static_cast<size_t>(tokens * dense.rows));
  scalar().dense_matmul({.dtype = dtype,
                         .weights = reinterpret_cast<const uint8_t*>(dense.bytes.data()),
                         .row_bytes = dense.row_bytes,
                         .cols = dense.cols,
                         .first_row = 0,
                         .last_row = dense.rows,
                         .tokens = tokens,
                         .x = aligned.as<float>(),
                         .x_stride = stride,
                         .y = y.data(),
                         .y_stride = dense.rows});
  return y;
}

/// rms_norm of the scalar table.
inline std::vector<float> normed_rows(std::span<const float> x, int64_t tokens,
                                      std::span<const float> weight) {
  const auto cols = std::ssize(weight);
  std::vector<float> y(x.size());
  scalar().rms_norm({.x = x.data(),
                     .x_stride = cols,
                     .tokens = tokens,
                     .cols = cols,
                     .weight = weight.data(),
                     .eps = 1e-5f,
                     .y = y.data(),
                     .y_stride = cols});
  return y;
}

}  // namespace bitnet::cuda
