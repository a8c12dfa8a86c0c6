#include "bitnet/quant/block_formats.h"
#include "bitnet/quant/packed_ternary.h"
#include "kernels/measure/kernel_cases.h"
#include "kernels/measure/random_operands.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kCheckedGroups = 3, kCheckedRows = 37;
constexpr int64_t kAlign = 16;

struct MatrixShape {
  int64_t rows, cols;
  bool operator<(const MatrixShape& other) const {
    return std::pair(rows, cols) < std::pair(other.rows, other.cols);
  }
};

/// Random trits in 16 rows, repeated: no kernel's speed depends on values.
PackedTernary random_ternary(MatrixShape shape) {
  PackedTernary matrix(shape.rows, shape.cols);
  std::mt19937 random(2);
  std::vector<int8_t> trits(static_cast<size_t>(PackedTernary::kGroupRows * shape.cols));
  for (int8_t& trit : trits) trit = static_cast<int8_t>(static_cast<int>(random() % 3) - 1);
  const std::vector<float> scales(PackedTernary::kGroupRows, 0.5f);
  for (int64_t group = 0; group < matrix.groups(); ++group) {
    const auto rows = static_cast<size_t>(
        std::min<int64_t>(PackedTernary::kGroupRows, shape.rows - group * PackedTernary::kGroupRows));
    matrix.set_group(group, std::span(trits).first(rows * static_cast<size_t>(shape.cols)),
                     std::span(scales).first(rows));
  }
  return matrix;
}

/// `count` copies of `bytes` bytes.
AlignedBuffer copies_of(const void* data, int64_t bytes, int64_t count, ThreadPool& pool) {
  AlignedBuffer buffer(static_cast<size_t>(count * bytes));
  pool.for_range(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(buffer.data() + i * bytes, data, static_cast<size_t>(bytes));
  });
  return buffer;
}

/// int8 rows as `quantize` of the scalar table makes them.
struct QuantizedRows {
  QuantizedRows(const KernelTable& scalar, int64_t tokens, int64_t cols)
      : stride(round_up(cols, 64)),
        q(static_cast<size_t>(tokens * stride)),
        scale(static_cast<size_t>(tokens)),
        sum(static_cast<size_t>(tokens)) {
    const AlignedBuffer x = random_rows(tokens, cols, round_up(cols, kAlign));
    scalar.quantize({x.as<float>(), round_up(cols, kAlign), tokens, cols, q.as<int8_t>(), stride,
                     scale.data(), sum.data()});
  }
  int64_t stride;
  AlignedBuffer q;
  std::vector<float> scale;
  std::vector<int32_t> sum;
};

void time_ternary(KernelMeter& meter, const PackedTernary& matrix, const AlignedBuffer& weights,
                  int64_t tokens) {
  const int64_t rows = matrix.rows(), cols = matrix.cols();
  QuantizedRows x(meter.scalar, tokens, cols);
  AlignedBuffer y(static_cast<size_t>(tokens * rows) * sizeof(float)), expected(y.size());
  TernaryMatmulArgs args = {matrix.data(),
                            matrix.row_scales(),
                            rows,
                            matrix.padded_cols(),
                            0,
                            std::min(kCheckedGroups, matrix.groups()),
                            tokens,
                            x.q.as<int8_t>(),
                            x.stride,
                            x.scale.data(),
                            x.sum.data(),
                            expected.as<float>(),
                            rows};
  KernelSpeed speed{"ternary_matmul",
                    fmt::format("{}x{}", rows, cols),
                    tokens,
                    0,
                    2.0 * static_cast<double>(rows * cols * tokens),
                    static_cast<double>(matrix.bytes())};
  meter.scalar.ternary_matmul(args);
  args.y = y.as<float>();
  meter.table.ternary_matmul(args);
  if (!same_bytes(y, expected)) throw_difference(speed, meter.table);

  const int64_t copies = static_cast<int64_t>(weights.size()) / matrix.bytes();
  int64_t copy = 0;
  meter.time(std::move(speed), [&] {
    const uint8_t* const first = weights.as<uint8_t>() + copy * matrix.bytes();
    copy = copy + 1 == copies ? 0 : copy + 1;
    meter.pool.for_range(matrix.groups(), 1, [&](int64_t begin, int64_t end) {
      TernaryMatmulArgs part = args;
      part.weights = first;
      part.first_group = begin;
      part.last_group = end;
      meter.table.ternary_matmul(part);
    });
  });
}

void time_dense(KernelMeter& meter, const AlignedBuffer& weights, int64_t row_bytes, int64_t tokens) {
  const int64_t rows = meter.shapes.vocab, cols = meter.shapes.hidden, stride = round_up(cols, kAlign);
  const AlignedBuffer x = random_rows(tokens, cols, stride);
  AlignedBuffer y(static_cast<size_t>(tokens * rows) * sizeof(float)), expected(y.size());
  DenseMatmulArgs args = {meter.shapes.head,
                          weights.as<uint8_t>(),
                          row_bytes,
                          cols,
                          0,
                          std::min(kCheckedRows, rows),
                          tokens,
                          x.as<float>(),
                          stride,
                          expected.as<float>(),
                          rows};
  KernelSpeed speed{fmt::format("dense_matmul {}", to_string(meter.shapes.head)),
                    fmt::format("{}x{}", rows, cols),
                    tokens,
                    0,
                    2.0 * static_cast<double>(rows * cols * tokens),
                    static_cast<double>(rows * row_bytes)};
  meter.scalar.dense_matmul(args);
  args.y = y.as<float>();
  meter.table.dense_matmul(args);
  if (!same_bytes(y, expected)) throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(rows, kAlign, [&](int64_t begin, int64_t end) {
      DenseMatmulArgs part = args;
      part.first_row = begin;
      part.last_row = end;
      meter.table.dense_matmul(part);
    });
  });
}

}  // namespace

void measure_ternary_products(KernelMeter& meter) {
  const KernelShapes& s = meter.shapes;
  const int64_t q_size = s.heads * s.head_dim, kv_size = s.kv_heads * s.head_dim;
  const std::set<MatrixShape> shapes = {{q_size, s.hidden},
                                        {kv_size, s.hidden},
                                        {s.hidden, q_size},
                                        {s.intermediate, s.hidden},
                                        {s.hidden, s.intermediate}};
  for (const MatrixShape& shape : shapes) {
    const PackedTernary matrix = random_ternary(shape);
    const int64_t copies = std::max<int64_t>(1, s.cold_bytes / matrix.bytes());
    const AlignedBuffer weights = copies_of(matrix.data(), matrix.bytes(), copies, meter.pool);
    for (const int64_t tokens : s.tokens) time_ternary(meter, matrix, weights, tokens);
  }
}

void measure_head_products(KernelMeter& meter) {
  const int64_t cols = meter.shapes.hidden;
  const int64_t row_bytes =
      cols / dtype_info(meter.shapes.head).block_elements * dtype_info(meter.shapes.head).block_bytes;
  const AlignedBuffer row = random_rows(1, cols, cols);
  std::vector<std::byte> packed(static_cast<size_t>(row_bytes));
  quantize_row(meter.shapes.head, {row.as<float>(), static_cast<size_t>(cols)}, packed);
  const AlignedBuffer weights = copies_of(packed.data(), row_bytes, meter.shapes.vocab, meter.pool);
  for (const int64_t tokens : {1, 8}) time_dense(meter, weights, row_bytes, tokens);
}

}  // namespace bitnet::kernels
