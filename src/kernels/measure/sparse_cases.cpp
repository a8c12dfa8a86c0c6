#include "bitnet/quant/packed_ternary.h"
#include "kernels/measure/kernel_cases.h"
#include "kernels/measure/random_operands.h"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

// Of a ReLU^2 model's gates about a third are open, and of the inputs of the down projection a fifth is not
// zero.
constexpr int64_t kRowStep = 3, kColumnStep = 5;
constexpr int64_t kCheckedSparseRows = 37;

PackedTernary random_matrix(int64_t rows, int64_t cols, TernaryLayout layout) {
  PackedTernary matrix(rows, cols, layout);
  std::mt19937 random(2);
  std::vector<int8_t> trits(static_cast<size_t>(matrix.group_rows() * cols));
  for (int8_t& trit : trits) trit = static_cast<int8_t>(static_cast<int>(random() % 3) - 1);
  const std::vector<float> scales(static_cast<size_t>(matrix.group_rows()), 0.5f);
  for (int64_t group = 0; group < matrix.groups(); ++group) {
    const auto count = static_cast<size_t>(std::min(matrix.group_rows(), rows - group * matrix.group_rows()));
    matrix.set_group(group, std::span(trits).first(count * static_cast<size_t>(cols)),
                     std::span(scales).first(count));
  }
  return matrix;
}

/// Every step-th of [0, count), with room to read up to a multiple of 4.
std::vector<int32_t> every(int64_t step, int64_t count) {
  std::vector<int32_t> list(static_cast<size_t>(round_up(count, 4 * step) / step));
  for (size_t i = 0; i < list.size(); ++i)
    list[i] = static_cast<int32_t>(std::min(static_cast<int64_t>(i) * step, count - 1));
  return list;
}

void time_rows(KernelMeter& meter) {
  const int64_t rows = meter.shapes.intermediate, cols = meter.shapes.hidden;
  const PackedTernary matrix = random_matrix(rows, cols, TernaryLayout::kRows);
  const std::vector<int32_t> chosen = every(kRowStep, rows);
  const int64_t count = (rows + kRowStep - 1) / kRowStep,
                plane_stride = round_up(matrix.padded_cols() / 4, 64);
  AlignedBuffer planes(static_cast<size_t>(4 * plane_stride));
  std::fill_n(planes.as<int8_t>(), 4 * plane_stride, int8_t{0});
  for (int64_t plane = 0; plane < 4; ++plane)
    std::fill_n(planes.as<int8_t>() + plane * plane_stride, cols / 4, int8_t{3});
  AlignedBuffer y(static_cast<size_t>(count) * sizeof(float)), expected(y.size());
  const auto run = [&](const KernelTable& table, int64_t first, int64_t last, AlignedBuffer& out) {
    table.ternary_rows({.weights = matrix.data(),
                        .row_scale = matrix.row_scales(),
                        .padded_cols = matrix.padded_cols(),
                        .rows = chosen.data() + first,
                        .count = last - first,
                        .planes = planes.as<int8_t>(),
                        .plane_stride = plane_stride,
                        .scale = 1.0f,
                        .sum = 7,
                        .y = out.as<float>() + first});
  };
  KernelSpeed speed{"ternary_rows",
                    fmt::format("{} of {}x{}", count, rows, cols),
                    1,
                    0,
                    2.0 * static_cast<double>(count * cols),
                    static_cast<double>(count * matrix.stride())};
  run(meter.scalar, 0, std::min(kCheckedSparseRows, count), expected);
  run(meter.table, 0, std::min(kCheckedSparseRows, count), y);
  if (!same_bytes(y, expected)) throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(count, 1, [&](int64_t first, int64_t last) { run(meter.table, first, last, y); });
  });
}

void time_columns(KernelMeter& meter) {
  const int64_t rows = meter.shapes.hidden, cols = meter.shapes.intermediate;
  const PackedTernary matrix = random_matrix(rows, cols, TernaryLayout::kColumns);
  const std::vector<int32_t> chosen = every(kColumnStep, cols);
  const int64_t count = (cols + kColumnStep - 1) / kColumnStep;
  std::vector<int8_t> q(chosen.size());
  std::fill_n(q.begin(), count, int8_t{3});  // zeros behind the list
  AlignedBuffer sums(static_cast<size_t>(matrix.groups() * PackedTernary::kLineRows) * sizeof(int32_t));
  AlignedBuffer expected(sums.size());
  const auto run = [&](const KernelTable& table, int64_t first, int64_t last, AlignedBuffer& out) {
    table.ternary_columns({.weights = matrix.data(),
                           .stride = matrix.stride(),
                           .first_line = first,
                           .last_line = last,
                           .columns = chosen.data(),
                           .q = q.data(),
                           .count = count,
                           .sums = out.as<int32_t>() + first * PackedTernary::kLineRows});
  };
  KernelSpeed speed{"ternary_columns",
                    fmt::format("{} of {}x{}", count, rows, cols),
                    1,
                    0,
                    2.0 * static_cast<double>(rows * count),
                    static_cast<double>(count * matrix.stride())};
  run(meter.scalar, 0, 1, expected);
  run(meter.table, 0, 1, sums);
  if (!same_bytes(sums, expected)) throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(matrix.groups(), 1,
                         [&](int64_t first, int64_t last) { run(meter.table, first, last, sums); });
  });
}

}  // namespace

void measure_sparse_products(KernelMeter& meter) {
  time_rows(meter);
  time_columns(meter);
}

}  // namespace bitnet::kernels
