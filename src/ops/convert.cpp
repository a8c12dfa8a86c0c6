#include "bitnet/ops/convert.h"

#include "bitnet/core/error.h"
#include "bitnet/ops/metrics.h"
#include "bitnet/tensor/copy_tracker.h"
#include "bitnet/tensor/create.h"
#include "ops/axes.h"
#include "ops/convert_codec.h"
#include "ops/host_backend.h"
#include "ops/parallel.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int64_t kChunkBytes = 1 << 20;

CopyCounter conversions("to_dtype");

void require_types(const Tensor& x, DType dtype) {
  if (!x.defined()) throw Error(ErrorCode::kInvalidTensor, "to_dtype: the tensor holds nothing");
  if (!is_host(x.device())) {
    throw Error(ErrorCode::kDeviceMismatch,
                fmt::format("to_dtype: the tensor lies on {}", to_string(x.device())),
                "copy it with to_device(tensor, kCpuDevice)");
  }
  if (!is_plain(dtype) && !is_quantized(dtype)) {
    throw Error(ErrorCode::kUnsupported, fmt::format("to_dtype: {} is a file format", to_string(dtype)),
                "files are written by bitnet convert");
  }
}

/// Bits that hold an integer type's magnitude, or a float's significand; and whether it is a float.
struct Precision {
  int digits;
  bool floating;
};
Precision precision(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return {53, true};
    case DType::kF32:
      return {24, true};
    case DType::kF16:
      return {11, true};
    case DType::kBF16:
      return {8, true};
    case DType::kBool:
      return {1, false};
    default:
      return {static_cast<int>(dtype_info(dtype).block_bytes) * 8 - (is_signed(dtype) ? 1 : 0), false};
  }
}

bool is_exact(DType from, DType to) {
  if (from == to) return true;
  if (!is_plain(from) || !is_plain(to)) return false;
  const Precision a = precision(from), b = precision(to);
  if (to == DType::kBool || (a.floating && !b.floating)) return false;
  if (a.floating) return a.digits <= b.digits && !(from == DType::kBF16 && to == DType::kF16);
  // f16 ends at 65504, so that of the integers with at most 11 bits all fit.
  const bool sign_fits = from == DType::kBool || !is_signed(from) || is_signed(to);
  return a.digits <= b.digits && sign_fits;
}

bool keeps_codes(const Tensor& x, DType dtype, const ConversionOptions& options) {
  return is_quantized(x.dtype()) && is_quantized(dtype) && !options.quantization;
}

/// A tensor of the new type over the old one's bytes.
Tensor reuse(const Tensor& x, DType dtype) {
  return {x.storage(), dtype, x.shape(), contiguous_strides(x.shape()),
          x.offset() * dtype_info(x.dtype()).block_bytes / dtype_info(dtype).block_bytes};
}

/// The kernel that does all of it at once, or null.
ops::LoopKernel whole_kernel(const Tensor& x, const Tensor& y, const ops::Axes& axes,
                             const ConversionOptions& options, const ExecutionContext& context) {
  const bool plain = is_plain(x.dtype()) && is_plain(y.dtype()) && options.rounding == Rounding::kNearestEven;
  if (!plain || axes.inner_stride() != 1 || context.backend == "scalar") return nullptr;
  return ops::simd_kernels().convert(x.dtype(), y.dtype());
}

void convert_runs(ops::LoopKernel kernel, const Tensor& x, Tensor& y, const ops::Axes& axes, int64_t begin,
                  int64_t end) {
  const int64_t x_bytes = dtype_info(x.dtype()).block_bytes, y_bytes = dtype_info(y.dtype()).block_bytes;
  auto* from = const_cast<std::byte*>(x.bytes());
  std::byte* to = y.bytes();
  constexpr int64_t kStrides[] = {1, 1};
  axes.for_each_run(begin, end, [&](int64_t n, int64_t offset, int64_t first) {
    std::byte* const operands[] = {to + first * y_bytes, from + offset * x_bytes};
    kernel(n, operands, kStrides);
  });
}

void convert_range(const Tensor& x, Tensor& y, const ops::Axes& axes, int64_t begin, int64_t end,
                   const ops::StoreOptions& options) {
  const std::byte* from = x.bytes();
  std::byte* to = y.bytes();
  const int64_t bytes = dtype_info(x.dtype()).block_bytes;
  ops::WideBlock block;
  for (int64_t i = begin; i < end;) {
    const int64_t stop = std::min(end, i + ops::WideBlock::kElements);
    if (is_packed(x.dtype())) {
      ops::load_wide(x, from, 1, i, stop - i, options.scaled, block);
      ops::store_wide(block, i, stop - i, options, y, to);
    } else if (is_packed(y.dtype())) {
      // Packed results want whole blocks; runs may end anywhere, so elements come one run at a time.
      ops::WideBlock part;
      axes.for_each_run(i, stop, [&](int64_t n, int64_t offset, int64_t first) {
        ops::load_wide(x, from + offset * bytes, axes.inner_stride(), first, n, options.scaled, part);
        block.type = part.type;
        std::copy_n(part.u64, n, block.u64 + (first - i));
      });
      ops::store_wide(block, i, stop - i, options, y, to);
    } else {
      axes.for_each_run(i, stop, [&](int64_t n, int64_t offset, int64_t first) {
        ops::load_wide(x, from + offset * bytes, axes.inner_stride(), first, n, options.scaled, block);
        ops::store_wide(block, first, n, options, y, to);
      });
    }
    i = stop;
  }
}

/// The plan without the time, whose first estimate measures the machine.
ConversionPlan choose(const Tensor& x, DType dtype, const ConversionOptions& options) {
  require_types(x, dtype);
  ConversionPlan plan;
  plan.exact = is_exact(x.dtype(), dtype) && !options.quantization;
  if (x.dtype() == dtype && !options.quantization) {
    plan.strategy = ConversionStrategy::kZeroCopy;
    return plan;
  }
  const DTypeInfo& info = dtype_info(dtype);
  plan.bytes_read = x.nbytes();
  plan.bytes_written = (x.numel() + info.block_elements - 1) / info.block_elements * info.block_bytes;
  const bool not_larger =
      is_plain(x.dtype()) && is_plain(dtype) && info.block_bytes <= dtype_info(x.dtype()).block_bytes;
  const bool alone = x.storage()->references.load() == 1 && x.writable() && x.is_contiguous();
  if (options.may_overwrite && not_larger && alone) {
    plan.strategy = ConversionStrategy::kInPlace;
    return plan;
  }
  plan.strategy = std::max(plan.bytes_read, plan.bytes_written) > kChunkBytes ? ConversionStrategy::kStreaming
                                                                              : ConversionStrategy::kPlain;
  plan.bytes_allocated = plan.bytes_written;
  return plan;
}

}  // namespace

std::string_view to_string(ConversionStrategy strategy) {
  constexpr std::array<std::string_view, 4> names = {"zero-copy", "in place", "streaming", "plain"};
  return names.at(static_cast<size_t>(strategy));
}

ConversionPlan plan_conversion(const Tensor& x, DType dtype, const ConversionOptions& options) {
  ConversionPlan plan = choose(x, dtype, options);
  plan.least_seconds = measured_roofline().seconds(plan.bytes_read + plan.bytes_written, 0);
  return plan;
}

Tensor to_dtype(Tensor x, DType dtype, const ConversionOptions& options) {
  const ConversionPlan plan = choose(x, dtype, options);
  if (plan.strategy == ConversionStrategy::kZeroCopy) {
    conversions.add(0);
    return x;
  }
  const bool in_place = plan.strategy == ConversionStrategy::kInPlace;
  conversions.add(in_place ? 0 : plan.bytes_written);
  const ExecutionContext& context = ExecutionContext::current();
  const bool codes = keeps_codes(x, dtype, options);
  Tensor y = in_place ? reuse(x, dtype) : empty(x.shape(), dtype);
  if (options.quantization) y = y.with_quantization(*options.quantization);
  if (codes && x.quantization()) y = y.with_quantization(*x.quantization());
  const ops::StoreOptions store = {options.rounding, options.overflow, options.seed.value_or(context.seed),
                                   !codes};
  const ops::Axes axes = ops::all_axes(x);
  const ops::LoopKernel kernel = whole_kernel(x, y, axes, options, context);
  const auto convert = [&](int64_t begin, int64_t end) {
    kernel != nullptr ? convert_runs(kernel, x, y, axes, begin, end)
                      : convert_range(x, y, axes, begin, end, store);
  };
  if (plan.strategy != ConversionStrategy::kStreaming) {
    convert(0, x.numel());
    return y;
  }
  const auto chunk =
      static_cast<int64_t>(kChunkBytes * 8 / std::max(bits_per_element(x.dtype()), bits_per_element(dtype)));
  ops::parallel_for(context, x.numel(), chunk, x.numel(), convert);
  return y;
}

}  // namespace bitnet
