#include "bitnet/quant/block_formats.h"
#include "kernels/measure/kernel_cases.h"
#include "kernels/measure/random_operands.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kCheckedRows = 37, kCheckedGroups = 2, kGroupRows = 16;

AlignedBuffer random_bytes(int64_t count, int least, int most) {
  AlignedBuffer buffer(static_cast<size_t>(count));
  std::mt19937 random(3);
  for (int64_t i = 0; i < count; ++i)
    buffer.as<uint8_t>()[i] =
        static_cast<uint8_t>(least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1)));
  return buffer;
}

/// `rows` copies of a row of random weights, quantized.
AlignedBuffer q6_k_matrix(int64_t rows, int64_t cols, int64_t row_bytes) {
  AlignedBuffer weights(static_cast<size_t>(rows * row_bytes));
  const AlignedBuffer row = random_rows(1, cols, cols);
  quantize_row(DType::kQ6_K, {row.as<float>(), static_cast<size_t>(cols)},
               {weights.data(), static_cast<size_t>(row_bytes)});
  for (int64_t r = 1; r < rows; ++r)
    std::memcpy(weights.data() + r * row_bytes, weights.data(), static_cast<size_t>(row_bytes));
  return weights;
}

void time_q6_k(KernelMeter& meter) {
  const int64_t rows = meter.shapes.vocab, cols = meter.shapes.hidden, row_bytes = cols / 256 * 210;
  const AlignedBuffer weights = q6_k_matrix(rows, cols, row_bytes);
  const AlignedBuffer x = random_bytes(2 * cols, 0, 63), floats = random_rows(1, cols / 16, cols / 16);
  AlignedBuffer y(static_cast<size_t>(2 * rows) * sizeof(float)), expected(y.size());
  const auto run = [&](const KernelTable& table, int64_t first, int64_t last, AlignedBuffer& out) {
    table.scan_q6_k({.weights = weights.as<uint8_t>(),
                     .row_bytes = row_bytes,
                     .cols = cols,
                     .first_row = first,
                     .last_row = last,
                     .tokens = 1,
                     .x = x.as<int16_t>(),
                     .x_stride = cols,
                     .offset = floats.as<float>(),
                     .weight = floats.as<float>(),
                     .sub_block_stride = cols / 16,
                     .y = out.as<float>() + first,
                     .bound = out.as<float>() + rows + first,
                     .y_stride = rows});
  };
  KernelSpeed speed{"scan_q6_k", fmt::format("{}x{}", rows, cols),       1,
                    0,           2.0 * static_cast<double>(rows * cols), static_cast<double>(weights.size())};
  run(meter.scalar, 0, std::min(kCheckedRows, rows), expected);
  run(meter.table, 0, std::min(kCheckedRows, rows), y);
  if (!same_bytes(y, expected)) throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(rows, kGroupRows,
                         [&](int64_t first, int64_t last) { run(meter.table, first, last, y); });
  });
}

void time_i8(KernelMeter& meter) {
  const int64_t groups = (meter.shapes.vocab + kGroupRows - 1) / kGroupRows,
                cols = round_up(meter.shapes.hidden, 4);
  const AlignedBuffer weights = random_bytes(groups * kGroupRows * cols, 1, 255);
  const AlignedBuffer q = random_bytes(round_up(cols, 64), 0, 63);
  const int32_t sum = std::accumulate(q.as<int8_t>(), q.as<int8_t>() + cols, 0);
  AlignedBuffer y(static_cast<size_t>(groups * kGroupRows) * sizeof(float)), expected(y.size());
  const auto run = [&](const KernelTable& table, int64_t first, int64_t last, AlignedBuffer& out) {
    table.scan_i8({.weights = weights.as<uint8_t>(),
                   .padded_cols = cols,
                   .first_group = first,
                   .last_group = last,
                   .tokens = 1,
                   .hi = q.as<int8_t>(),
                   .lo = q.as<int8_t>(),
                   .q_stride = round_up(cols, 64),
                   .hi_sum = &sum,
                   .lo_sum = &sum,
                   .y = out.as<float>() + first * kGroupRows,
                   .y_stride = groups * kGroupRows});
  };
  KernelSpeed speed{
      "scan_i8", fmt::format("{}x{}", groups * kGroupRows, cols),       1,
      0,         2.0 * static_cast<double>(groups * kGroupRows * cols), static_cast<double>(weights.size())};
  run(meter.scalar, 0, std::min(kCheckedGroups, groups), expected);
  run(meter.table, 0, std::min(kCheckedGroups, groups), y);
  if (!same_bytes(y, expected)) throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(groups, 1, [&](int64_t first, int64_t last) { run(meter.table, first, last, y); });
  });
}

}  // namespace

void measure_head_scans(KernelMeter& meter) {
  meter.shapes.head == DType::kQ6_K ? time_q6_k(meter) : time_i8(meter);
}

}  // namespace bitnet::kernels
