// Embedding, head, RoPE and gated units against the processor's kernels.

#include "bitnet/core/memory.h"
#include "bitnet/quant/block_formats.h"
#include "cuda_test.h"

#include <algorithm>

namespace bitnet::cuda {
namespace {

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ6_K};

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

int64_t some_cols(DType dtype) {
  return dtype_info(dtype).block_elements == 1 ? 131 : dtype_info(dtype).block_elements * 3;
}

/// dense_matmul of the scalar table.
std::vector<float> logits(const Dense& dense, DType dtype, std::span<const float> x, int64_t tokens) {
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

class Float : public CudaTest {};

TEST_F(Float, EmbeddingRowsAreTheDecodedOnes) {
  Random random(1);
  for (const DType dtype : kTypes) {
    const Dense dense(random, dtype, 9, some_cols(dtype));
    const DeviceBuffer rows = to_device(dense.bytes);
    const std::vector<int32_t> ids{8, 0, 3, 3};
    const DeviceBuffer device_ids = to_device(ids), x = filled<float>(4 * dense.cols);
    run([&](Stream stream) {
      table().embed({.table = {dtype, rows.data(), dense.row_bytes, dense.rows, dense.cols},
                     .ids = device_ids.as<int32_t>(),
                     .tokens = 4,
                     .x = x.as<float>(),
                     .x_stride = dense.cols},
                    stream);
    });
    const std::vector<float> found = to_host<float>(x);
    for (size_t t = 0; t < ids.size(); ++t) {
      for (int64_t c = 0; c < dense.cols; ++c)
        ASSERT_EQ(found[t * static_cast<size_t>(dense.cols) + static_cast<size_t>(c)],
                  dense.values[static_cast<size_t>(ids[t] * dense.cols + c)])
            << to_string(dtype);
    }
  }
}

TEST_F(Float, HeadHasTheScalarTablesBits) {
  Random random(2);
  for (const DType dtype : kTypes) {
    for (const int64_t vocab : {1, 1001}) {
      const Dense dense(random, dtype, vocab, some_cols(dtype));
      constexpr int64_t kTokens = 5;
      const std::vector<float> x = random_floats(random, kTokens * dense.cols, -4, 4);
      const std::vector<float> weight = random_floats(random, dense.cols, 0.5f, 1.5f);
      std::vector<float> normed(x.size());
      scalar().rms_norm({.x = x.data(),
                         .x_stride = dense.cols,
                         .tokens = kTokens,
                         .cols = dense.cols,
                         .weight = weight.data(),
                         .eps = 1e-5f,
                         .y = normed.data(),
                         .y_stride = dense.cols});
      const DeviceBuffer rows = to_device(dense.bytes),
                         device_x = to_device(padded_rows(x, kTokens, dense.cols));
      const DeviceBuffer device_weight = to_device(padded_rows(weight, 1, dense.cols));
      const DeviceBuffer y = filled<float>(kTokens * vocab);
      run([&](Stream stream) {
        table().head({.head = {dtype, rows.data(), dense.row_bytes, dense.rows, dense.cols},
                      .x = device_x.as<float>(),
                      .x_stride = padded(dense.cols),
                      .tokens = kTokens,
                      .norms = {.first = device_weight.as<float>(), .first_eps = 1e-5f},
                      .y = y.as<float>(),
                      .y_stride = vocab},
                     stream);
      });
      EXPECT_EQ(to_host<float>(y), logits(dense, dtype, normed, kTokens))
          << to_string(dtype) << ", " << vocab;
    }
  }
}

TEST_F(Float, GatedUnitsHaveTheScalarTablesBits) {
  Random random(3);
  const std::vector<float> gate = random_floats(random, 5000, -20, 20), up = random_floats(random, 5000);
  const DeviceBuffer device_gate = to_device(gate), device_up = to_device(up);
  for (const bool relu2 : {false, true}) {
    std::vector<float> expected(gate.size());
    (relu2 ? scalar().glu_relu2 : scalar().glu_silu)(
        {.gate = gate.data(), .up = up.data(), .h = expected.data(), .count = std::ssize(gate)});
    const DeviceBuffer h = filled<float>(std::ssize(gate));
    run([&](Stream stream) {
      table().glu({device_gate.as<float>(), device_up.as<float>(), h.as<float>(), std::ssize(gate), relu2},
                  stream);
    });
    EXPECT_EQ(to_host<float>(h), expected);
  }
}

}  // namespace
}  // namespace bitnet::cuda
