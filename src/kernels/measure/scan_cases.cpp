#include "kernels/measure/kernel_cases.h"
#include "kernels/measure/random_operands.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kCheckedScanGroups = 2, kGroupRows = 16;

AlignedBuffer random_bytes(int64_t count, int least, int most) {
  AlignedBuffer buffer(static_cast<size_t>(count));
  std::mt19937 random(3);
  for (int64_t i = 0; i < count; ++i)
    buffer.as<uint8_t>()[i] =
        static_cast<uint8_t>(least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1)));
  return buffer;
}

constexpr int64_t kUnitCols = 128, kUnitBytes = 1088, kUnitCodes = 1024, kBlocks = 4;

/// `groups` copies of a group of 16 rows of random codes and multipliers (kernel_table.h).
AlignedBuffer i4_groups(int64_t groups, int64_t units) {
  const int64_t group_bytes = units * kUnitBytes;
  AlignedBuffer weights(static_cast<size_t>(groups * group_bytes));
  const AlignedBuffer bytes = random_bytes(group_bytes, 0, 255);
  auto* group = weights.as<uint8_t>();
  for (int64_t i = 0; i < group_bytes; ++i) {
    const uint8_t byte = bytes.as<uint8_t>()[i];
    group[i] = i % kUnitBytes < kUnitCodes ? byte : byte & 127;
  }
  for (int64_t g = 1; g < groups; ++g)
    std::memcpy(group + g * group_bytes, group, static_cast<size_t>(group_bytes));
  return weights;
}

}  // namespace

void measure_head_scans(KernelMeter& meter) {
  const int64_t groups = (meter.shapes.vocab + kGroupRows - 1) / kGroupRows, rows = groups * kGroupRows;
  const int64_t units = (meter.shapes.hidden + kUnitCols - 1) / kUnitCols, cols = units * kUnitCols;
  const AlignedBuffer weights = i4_groups(groups, units);
  const AlignedBuffer x = random_bytes(cols, 0, 63);
  const AlignedBuffer floats = random_rows(1, units * kBlocks, units * kBlocks);
  std::vector<float> squares(floats.as<float>(), floats.as<float>() + units * kBlocks);
  for (float& square : squares) square *= square;
  const std::vector<int32_t> offsets(squares.size(), -7 * 32 * 31);
  AlignedBuffer y(static_cast<size_t>(2 * rows) * sizeof(float)), expected(y.size());
  const auto run = [&](const KernelTable& table, int64_t first, int64_t last, AlignedBuffer& out) {
    table.scan_i4({.weights = weights.as<uint8_t>(),
                   .units = units,
                   .first_group = first,
                   .last_group = last,
                   .tokens = 1,
                   .hi = x.as<int8_t>(),
                   .lo = x.as<int8_t>(),
                   .x_stride = cols,
                   .offset = offsets.data(),
                   .weight = squares.data(),
                   .block_stride = units * kBlocks,
                   .y = out.as<float>() + first * kGroupRows,
                   .bound = out.as<float>() + rows + first * kGroupRows,
                   .y_stride = rows});
  };
  KernelSpeed speed{"scan_i4", fmt::format("{}x{}", rows, cols),       1,
                    0,         2.0 * static_cast<double>(rows * cols), static_cast<double>(weights.size())};
  run(meter.scalar, 0, std::min(kCheckedScanGroups, groups), expected);
  run(meter.table, 0, std::min(kCheckedScanGroups, groups), y);
  if (!same_bytes(y, expected)) throw_difference(speed, meter.table);
  meter.time(std::move(speed), [&] {
    meter.pool.for_range(groups, 1, [&](int64_t first, int64_t last) { run(meter.table, first, last, y); });
  });
}

}  // namespace bitnet::kernels
