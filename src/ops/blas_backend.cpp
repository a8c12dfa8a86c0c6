// Products and convolutions of floats through OpenBLAS; f16 and bf16 in f32, rounded once.

#include "bitnet/core/error.h"
#include "bitnet/ops/convert.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"
#include "ops/contraction/convolve.h"
#include "ops/contraction/gemm.h"
#include "ops/contraction/geometry.h"
#include "ops/host_backend.h"
#include "ops/parallel.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

namespace bitnet::ops {
namespace {

CopyCounter matmul_counter("matmul"), convolution_counter("convolution");

constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // of sizes and strides in BLAS

bool is_half(DType dtype) {
  return dtype == DType::kF16 || dtype == DType::kBF16;
}

/// The matrix as BLAS reads it: elements of a row, or of a column, side by side, and the rows (columns) apart
/// by no less than their length. Nothing where the strides are others.
template <class Real>
std::optional<GemmOperand<Real>> operand(const MatmulBatch::Side& side, const Real* data, int64_t rows,
                                         int64_t columns) {
  const auto layout = [&](int64_t unit, int64_t apart, int64_t length, int64_t count,
                          bool transposed) -> std::optional<GemmOperand<Real>> {
    if (unit != 1 && length > 1) return std::nullopt;
    if (count == 1) return GemmOperand<Real>{data, length, transposed};  // its stride means nothing
    if (apart < length || apart > kMost) return std::nullopt;
    return GemmOperand<Real>{data, apart, transposed};
  };
  const auto by_rows = layout(side.column_stride, side.row_stride, columns, rows, false);
  return by_rows ? by_rows : layout(side.row_stride, side.column_stride, rows, columns, true);
}

template <class Real>
void multiply(const MatmulBatch& batch, const Real* a, const Real* b, Real* y,
              const ExecutionContext& context) {
  const int threads = threads_of(context);
  const GemmGrid grid =
      batch.count >= threads ? GemmGrid{} : gemm_grid(batch.rows, batch.depth, batch.columns, threads);
  // Work beyond any threshold counts as that: the product of all sizes may not fit.
  const double work = static_cast<double>(batch.rows) * static_cast<double>(batch.depth) *
                      static_cast<double>(batch.columns) * static_cast<double>(batch.count);
  constexpr double kWorthAFork = 1 << 22;  // multiply-adds: some 60 us (benchmarks/ops/matmul.cpp)
  const int64_t elements = work < kWorthAFork ? 0 : std::numeric_limits<int64_t>::max();
  parallel_for(context, batch.count * grid.parts(), 1, elements, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t i = task / grid.parts();
      const GemmProblem<Real> whole = {
          batch.rows,
          batch.depth,
          batch.columns,
          operand(batch.a, a + batch.offset(batch.a, i), batch.rows, batch.depth).value(),
          operand(batch.b, b + batch.offset(batch.b, i), batch.depth, batch.columns).value(),
          y + i * batch.rows * batch.columns,
          batch.columns};
      gemm(grid.parts() == 1 ? whole : gemm_part(whole, task % grid.parts(), grid));
    }
  });
}

/// The batch with operands that BLAS reads; counts the bytes of those copied for it. No size is 0.
template <class Real>
MatmulBatch readable_batch(OpCall& call) {
  const MatmulBatch batch = matmul_batch(call);
  const Real* none = nullptr;
  const std::array<bool, 2> reads = {operand(batch.a, none, batch.rows, batch.depth).has_value(),
                                     operand(batch.b, none, batch.depth, batch.columns).has_value()};
  int64_t copied = 0;
  for (size_t k = 0; k < reads.size(); ++k) {
    if (reads[k]) continue;
    call.inputs[k] = clone(call.inputs[k]);
    copied += call.inputs[k].nbytes();
  }
  matmul_counter.add(copied);
  return copied == 0 ? batch : matmul_batch(call);
}

template <class Real>
void run_matmul(OpCall& call) {
  if (call.output.numel() == 0) return;
  auto* y = call.output.data<Real>();
  if (call.inputs[0].shape().back() == 0) {  // sums of nothing
    std::fill_n(y, call.output.numel(), Real{0});
    return;
  }
  const MatmulBatch batch = readable_batch<Real>(call);
  multiply(batch, std::as_const(call.inputs[0]).data<Real>(), std::as_const(call.inputs[1]).data<Real>(), y,
           *call.context);
}

template <class Real>
void run_convolution(OpCall& call) {
  int64_t copied = 0;
  for (int k = 0; k < call.input_count; ++k) {
    Tensor& input = call.inputs[k];
    if (!input.defined() || input.is_contiguous()) continue;
    copied += input.nbytes();
    input = clone(input);
  }
  convolution_counter.add(copied);
  ConvolutionData<Real> data = {std::as_const(call.inputs[0]).data<Real>(),
                                std::as_const(call.inputs[1]).data<Real>(), nullptr,
                                call.output.data<Real>()};
  if (call.inputs[2].defined()) data.bias = std::as_const(call.inputs[2]).data<Real>();
  convolve(convolution(call), data, *call.context);
}

class BlasBackend final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "blas"; }
  [[nodiscard]] int priority() const override { return 80; }

  [[nodiscard]] std::string_view supports(const OpCall& call) const override {
    if (call.info->family != OpFamily::kContraction) return "only products and convolutions";
    if (!is_floating(call.dtype)) return "only floats";
    for (const Tensor& operand : call.operands()) {
      if (operand.defined() && operand.numel() > kMost) return "more elements than BLAS counts in 32 bits";
    }
    return call.output.numel() > kMost ? "a result larger than BLAS counts in 32 bits" : "";
  }

  [[nodiscard]] double estimate(const OpCall& call) const override {
    return call.operations() / throughput();
  }

  [[nodiscard]] double throughput() const override {
    if (const double known = throughput_.load(std::memory_order_relaxed); known > 0) return known;
    const double measured = measure();
    throughput_.store(measured, std::memory_order_relaxed);
    return measured;
  }

  [[nodiscard]] int64_t workspace_bytes(const OpCall& call) const override {
    int64_t bytes = is_half(call.dtype) ? 2 * call.bytes() : 0;  // everything again in f32
    if (call.info->op != Op::kMatmul) {
      bytes += threads_of(*call.context) * column_bytes(convolution(call), call.dtype == DType::kF64 ? 8 : 4);
    }
    return bytes;
  }

  void run(OpCall& call) const override {
    if (call.dtype == DType::kF64) return run_as<double>(call);
    if (call.dtype == DType::kF32) return run_as<float>(call);
    OpCall wide = call;
    wide.dtype = DType::kF32;
    for (int k = 0; k < wide.input_count; ++k) {
      if (wide.inputs[k].defined()) wide.inputs[k] = to_dtype(wide.inputs[k], DType::kF32);
    }
    const Shape shape(call.output.shape().begin(), call.output.shape().end());
    wide.output = empty(shape, DType::kF32);
    run_as<float>(wide);
    copy_into(to_dtype(wide.output, call.dtype), call.output);
  }

 private:
  template <class Real>
  static void run_as(OpCall& call) {
    if (call.info->op == Op::kMatmul) return run_matmul<Real>(call);
    run_convolution<Real>(call);
  }

  /// Operations per second of an f32 product on one thread: the best of a few.
  [[nodiscard]] double measure() const {
    constexpr int64_t kSide = 256;
    ExecutionContext context;
    context.threads = 1;
    OpCall call;
    call.info = &op_info(Op::kMatmul);
    call.context = &context;
    call.input_count = 2;
    call.inputs[0] = call.inputs[1] = full({kSide, kSide}, 1);
    call.output = empty({kSide, kSide});
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 10; ++i) {
      const auto start = std::chrono::steady_clock::now();
      run(call);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return call.operations() / best;
  }

  mutable std::atomic<double> throughput_{0};
};

}  // namespace

std::unique_ptr<const Backend> make_blas_backend() {
  return std::make_unique<BlasBackend>();
}

}  // namespace bitnet::ops
