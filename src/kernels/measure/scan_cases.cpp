#include "kernels/measure/kernel_cases.h"
#include "kernels/measure/random_operands.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kCheckedGroups = 2, kGroupRows = 16;

AlignedBuffer random_bytes(int64_t count, int least, int most) {
  AlignedBuffer buffer(static_cast<size_t>(count));
  std::mt19937 random(3);
  for (int64_t i = 0; i < count; ++i)
    buffer.as<uint8_t>()[i] =
        static_cast<uint8_t>(least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1)));
  return buffer;
}

constexpr int64_t kQ6BlockCols = 256, kQ6BlockBytes = 3328;

/// `groups` copies of a group of 16 rows of random codes and scales, all d = 2^-4.
AlignedBuffer q6_k_groups(int64_t groups, int64_t blocks, int64_t group_bytes) {
  AlignedBuffer weights(static_cast<size_t>(groups * group_bytes));
  const AlignedBuffer bytes = random_bytes(blocks * kQ6BlockBytes, 0, 255);
  const std::vector<uint16_t> steps(static_cast<size_t>(blocks * kGroupRows), 0x2c00);
  for (int64_t g = 0; g < groups; ++g) {
    std::memcpy(weights.data() + g * group_bytes, bytes.data(), bytes.size());
    std::memcpy(weights.data() + g * group_bytes + blocks * kQ6BlockBytes, steps.data(),
                steps.size() * sizeof(uint16_t));
  }
  return weights;
}

void time_q6_k(KernelMeter& meter) {
  const int64_t groups = (meter.shapes.vocab + kGroupRows - 1) / kGroupRows, rows = groups * kGroupRows;
  const int64_t cols = meter.shapes.hidden, blocks = cols / kQ6BlockCols;
  const int64_t group_bytes = round_up(blocks * (kQ6BlockBytes + 2 * kGroupRows), 64);
  const AlignedBuffer weights = q6_k_groups(groups, blocks, group_bytes);
  const AlignedBuffer x = random_bytes(round_up(cols, 64), 0, 63),
                      floats = random_rows(1, cols / 16, cols / 16);
  const std::vector<int32_t> offsets(static_cast<size_t>(cols / 16), -32 * 16 * 31);
  AlignedBuffer y(static_cast<size_t>(2 * rows) * sizeof(float)), expected(y.size());
  const auto run = [&](const KernelTable& table, int64_t first, int64_t last, AlignedBuffer& out) {
    table.scan_q6_k({.weights = weights.as<uint8_t>(),
                     .group_bytes = group_bytes,
                     .cols = cols,
                     .first_group = first,
                     .last_group = last,
                     .tokens = 1,
                     .hi = x.as<int8_t>(),
                     .lo = x.as<int8_t>(),
                     .x_stride = round_up(cols, 64),
                     .offset = offsets.data(),
                     .weight = floats.as<float>(),
                     .sub_block_stride = cols / 16,
                     .y = out.as<float>() + first * kGroupRows,
                     .bound = out.as<float>() + rows + first * kGroupRows,
                     .y_stride = rows});
  };
  KernelSpeed speed{"scan_q6_k", fmt::format("{}x{}", rows, cols),       1,
                    0,           2.0 * static_cast<double>(rows * cols), static_cast<double>(weights.size())};
  run(meter.scalar, 0, std::min(kCheckedGroups, groups), expected);
  run(meter.table, 0, std::min(kCheckedGroups, groups), y);
  if (!same_bytes(y, expected)) throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(groups, 1, [&](int64_t first, int64_t last) { run(meter.table, first, last, y); });
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
