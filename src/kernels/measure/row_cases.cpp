#include "kernels/measure/kernel_cases.h"
#include "kernels/measure/random_operands.h"

#include <string>
#include <utility>

#include <fmt/format.h>

namespace bitnet::kernels {
namespace {

constexpr int64_t kRowAlign = 16;
constexpr int64_t kPrefillRows = 512;

double as_bytes(int64_t floats) {
  return static_cast<double>(floats) * sizeof(float);
}

/// A kernel over rows of `cols` values: run(table, first, last, out) computes rows [first, last) into out,
/// which has room for `out_bytes` bytes a row. Checked on one row, then timed on 1 row and on many.
template <class Run>
void time_rows(KernelMeter& meter, const char* name, int64_t cols, int64_t out_bytes, double moved_bytes,
               Run run) {
  for (const int64_t rows : {int64_t{1}, kPrefillRows}) {
    AlignedBuffer out(static_cast<size_t>(rows * out_bytes)), expected(out.size());
    KernelSpeed speed{name, fmt::format("{}", cols), rows, 0, 0, static_cast<double>(rows) * moved_bytes};
    run(meter.scalar, 0, 1, expected.data());
    run(meter.table, 0, 1, out.data());
    if (!same_bytes(out, expected)) throw_difference(speed, meter.table);
    meter.time(std::move(speed), [&] {
      meter.pool.for_range(rows, 1,
                           [&](int64_t first, int64_t last) { run(meter.table, first, last, out.data()); });
    });
  }
}

void time_quantize(KernelMeter& meter, int64_t cols) {
  const int64_t x_stride = round_up(cols, kRowAlign), q_stride = round_up(cols, 64);
  const AlignedBuffer x = random_rows(kPrefillRows, cols, x_stride);
  std::vector<float> scale(kPrefillRows);
  std::vector<int32_t> sum(kPrefillRows);
  time_rows(meter, "quantize", cols, q_stride, as_bytes(cols) + static_cast<double>(cols),
            [&](const KernelTable& table, int64_t first, int64_t last, std::byte* out) {
              table.quantize({x.as<float>() + first * x_stride, x_stride, last - first, cols,
                              reinterpret_cast<int8_t*>(out) + first * q_stride, q_stride,
                              scale.data() + first, sum.data() + first});
            });
}

void time_norm(KernelMeter& meter, int64_t cols) {
  const int64_t stride = round_up(cols, kRowAlign);
  const AlignedBuffer x = random_rows(kPrefillRows, cols, stride), weight = random_rows(1, cols, stride);
  time_rows(meter, "rms_norm", cols, stride * 4, as_bytes(2 * cols),
            [&](const KernelTable& table, int64_t first, int64_t last, std::byte* out) {
              table.rms_norm({x.as<float>() + first * stride, stride, last - first, cols, weight.as<float>(),
                              1e-5f, reinterpret_cast<float*>(out) + first * stride, stride});
            });
}

void time_norm_quantize(KernelMeter& meter, int64_t cols) {
  const int64_t x_stride = round_up(cols, kRowAlign), q_stride = round_up(cols, 64);
  const AlignedBuffer x = random_rows(kPrefillRows, cols, x_stride), weight = random_rows(1, cols, x_stride);
  time_rows(meter, "norm_quantize", cols, q_stride, as_bytes(cols) + static_cast<double>(cols),
            [&](const KernelTable& table, int64_t first, int64_t last, std::byte* out) {
              float scale = 0;
              int32_t sum = 0;
              for (int64_t row = first; row < last; ++row) {
                table.norm_quantize({x.as<float>() + row * x_stride, cols, weight.as<float>(), 1e-5f,
                                     reinterpret_cast<int8_t*>(out) + row * q_stride, &scale, &sum});
              }
            });
}

void time_glu(KernelMeter& meter) {
  const int64_t cols = meter.shapes.intermediate, stride = round_up(cols, kRowAlign);
  const bool relu2 = meter.shapes.relu2;
  const AlignedBuffer gate = random_rows(kPrefillRows, cols, stride),
                      up = random_rows(kPrefillRows, cols, stride);
  time_rows(meter, relu2 ? "glu_relu2" : "glu_silu", cols, stride * 4, as_bytes(3 * cols),
            [&](const KernelTable& table, int64_t first, int64_t last, std::byte* out) {
              const GluArgs args = {gate.as<float>() + first * stride, up.as<float>() + first * stride,
                                    reinterpret_cast<float*>(out) + first * stride, (last - first) * stride};
              relu2 ? table.glu_relu2(args) : table.glu_silu(args);
            });
}

void time_add(KernelMeter& meter) {
  const int64_t cols = meter.shapes.hidden, stride = round_up(cols, kRowAlign);
  const AlignedBuffer y = random_rows(kPrefillRows, cols, stride);
  time_rows(meter, "add", cols, stride * 4, as_bytes(3 * cols),
            [&](const KernelTable& table, int64_t first, int64_t last, std::byte* out) {
              table.add(reinterpret_cast<float*>(out) + first * stride, y.as<float>() + first * stride,
                        (last - first) * stride);
            });
}

void time_rope(KernelMeter& meter) {
  const int64_t heads = meter.shapes.heads, dim = meter.shapes.head_dim,
                stride = round_up(heads * dim, kRowAlign);
  const AlignedBuffer cos = random_rows(kPrefillRows, dim / 2, dim / 2);
  const AlignedBuffer sin = random_rows(kPrefillRows, dim / 2, dim / 2);
  const AlignedBuffer x = random_rows(1, heads * dim, stride);
  time_rows(meter, "rope", heads * dim, stride * 4, as_bytes(2 * heads * dim),
            [&](const KernelTable& table, int64_t first, int64_t last, std::byte* out) {
              auto* const rows = reinterpret_cast<float*>(out) + first * stride;
              std::memcpy(rows, x.data(), x.size());  // in place: one row of values to check
              table.rope({rows, stride, last - first, heads, dim, cos.as<float>() + first * dim / 2,
                          sin.as<float>() + first * dim / 2});
            });
}

}  // namespace

void measure_row_kernels(KernelMeter& meter) {
  time_quantize(meter, meter.shapes.hidden);
  time_quantize(meter, meter.shapes.intermediate);
  time_norm(meter, meter.shapes.hidden);
  time_norm(meter, meter.shapes.intermediate);
  time_norm_quantize(meter, meter.shapes.hidden);
  time_norm_quantize(meter, meter.shapes.intermediate);
  time_glu(meter);
  time_add(meter);
  time_rope(meter);
}

}  // namespace bitnet::kernels
