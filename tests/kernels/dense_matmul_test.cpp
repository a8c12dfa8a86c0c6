#include "bitnet/core/half.h"
#include "bitnet/quant/block_formats.h"
#include "kernel_test.h"

#include <cmath>

namespace bitnet::kernels {
namespace {

constexpr float kUntouched = -12345.5f;

/// The sum of kernel_table.h in its lane order, over reference-decoded weights.
float lane_order_dot(const float* x, const std::vector<float>& w) {
  float lane[16] = {};
  for (size_t i = 0; i < w.size(); ++i) lane[i % 16] = std::fma(x[i], w[i], lane[i % 16]);
  for (int width = 8; width >= 1; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] += lane[j + width];
  }
  return lane[0];
}

class DenseProblem {
 public:
  DenseProblem(DType dtype, int64_t rows, int64_t cols, int64_t tokens)
      : dtype_(dtype),
        rows_(rows),
        cols_(cols),
        tokens_(tokens),
        row_bytes_(cols / dtype_info(dtype).block_elements * dtype_info(dtype).block_bytes),
        x_stride_(round_up(cols, 16)),
        weights_(rows * row_bytes_),
        x_(tokens * x_stride_, true) {
    Random random(static_cast<uint32_t>(rows + 41 * cols + 1009 * tokens));
    // Any bytes are a valid row of a block format, but its f16 scales must be finite: write a random row
    // first.
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      fill_uniform(random, row, -1, 1);
      quantize_row(dtype, row,
                   std::as_writable_bytes(weights_.span())
                       .subspan(static_cast<size_t>(r * row_bytes_), static_cast<size_t>(row_bytes_)));
    }
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t c = 0; c < cols; ++c) x_[t * x_stride_ + c] = uniform(random, -2, 2);
    }
  }

  uint8_t* weights() { return weights_.data(); }
  [[nodiscard]] int64_t weight_bytes() const { return rows_ * row_bytes_; }

  void check(const KernelTable& table, int64_t first, int64_t last) {
    const int64_t y_stride = rows_ + 2;
    GuardedArray<float> y((tokens_ - 1) * y_stride + rows_);
    y.fill(kUntouched);
    table.dense_matmul({.dtype = dtype_,
                        .weights = weights_.data(),
                        .row_bytes = row_bytes_,
                        .cols = cols_,
                        .first_row = first,
                        .last_row = last,
                        .tokens = tokens_,
                        .x = x_.data(),
                        .x_stride = x_stride_,
                        .y = y.data(),
                        .y_stride = y_stride});
    const auto bytes = std::as_bytes(weights_.span());
    std::vector<float> w(static_cast<size_t>(cols_));
    for (int64_t row = 0; row < y_stride; ++row) {
      const bool written = row >= first && row < last;
      if (written)
        dequantize_row(
            dtype_, bytes.subspan(static_cast<size_t>(row * row_bytes_), static_cast<size_t>(row_bytes_)), w);
      for (int64_t t = 0; t < tokens_; ++t) {
        if (t * y_stride + row >= (tokens_ - 1) * y_stride + rows_) continue;
        const float expected = written ? lane_order_dot(x_.data() + t * x_stride_, w) : kUntouched;
        ASSERT_EQ(bits_of(y[t * y_stride + row]), bits_of(expected))
            << to_string(dtype_) << " cols " << cols_ << " token " << t << " row " << row;
      }
    }
  }

 private:
  DType dtype_;
  int64_t rows_, cols_, tokens_, row_bytes_, x_stride_;
  GuardedArray<uint8_t> weights_;
  GuardedArray<float> x_;
};

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ6_K, DType::kQ4_0};

class DenseMatmul : public KernelTest {};
BITNET_TEST_EVERY_TABLE(DenseMatmul);

TEST_P(DenseMatmul, IsTheLaneOrderSumOfReferenceDecodedWeights) {
  for (const DType dtype : kTypes) {
    for (const int64_t blocks : {1, 3, 7}) {
      const int64_t cols = blocks * dtype_info(dtype).block_elements;
      for (int64_t rows = 1; rows <= 10; ++rows) {
        for (const int64_t tokens : {1, 2, 4, 7}) {
          DenseProblem(dtype, rows, cols, tokens).check(table(), 0, rows);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(DenseMatmul, PlainTypesTakeEveryLength) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t cols = 1; cols <= 70; ++cols) {
      DenseProblem(dtype, 5, cols, 1 + cols % 5).check(table(), 0, 5);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(DenseMatmul, ModelRows) {
  for (const DType dtype : kTypes) DenseProblem(dtype, 9, 2560, 5).check(table(), 0, 9);
}

TEST_P(DenseMatmul, WritesOnlyItsRows) {
  for (const DType dtype : kTypes) {
    DenseProblem problem(dtype, 13, 256, 3);
    for (int64_t first = 0; first < 13; first += 3) {
      for (int64_t last = first; last <= 13; ++last) problem.check(table(), first, last);
    }
  }
}

TEST_P(DenseMatmul, DecodesEveryBitPatternOfABlock) {
  Random random(5);
  for (const DType dtype : {DType::kQ8_0, DType::kQ6_K, DType::kQ4_0}) {
    DenseProblem problem(dtype, 64, 256, 1);
    const int64_t block_bytes = dtype_info(dtype).block_bytes;
    for (int64_t i = 0; i < problem.weight_bytes(); ++i) {
      // Q6_K keeps its f16 scale in the last two bytes of a block, the others in the first two.
      const int64_t place = i % block_bytes;
      const bool scale = dtype == DType::kQ6_K ? place >= 208 : place < 2;
      if (!scale) problem.weights()[i] = static_cast<uint8_t>(random());
    }
    problem.check(table(), 0, 64);
  }
}

TEST_P(DenseMatmul, DecodesEveryFiniteHalf) {
  // One weight 1.0 apart from zeros: y is the weight itself. 16 halves a row, of every exponent and mantissa.
  std::vector<uint16_t> halves;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00u) != 0x7c00u) halves.push_back(static_cast<uint16_t>(bits));
  }
  const auto rows = static_cast<int64_t>(halves.size());
  std::vector<float> y(halves.size());
  alignas(64) const float x[16] = {1.0f};
  table().dense_matmul({.dtype = DType::kF16,
                        .weights = reinterpret_cast<const uint8_t*>(halves.data()),
                        .row_bytes = 2,
                        .cols = 1,
                        .first_row = 0,
                        .last_row = rows,
                        .tokens = 1,
                        .x = x,
                        .x_stride = 16,
                        .y = y.data(),
                        .y_stride = rows});
  for (size_t i = 0; i < halves.size(); ++i) ASSERT_EQ(y[i], f16_to_f32(halves[i])) << halves[i];
}

}  // namespace
}  // namespace bitnet::kernels
