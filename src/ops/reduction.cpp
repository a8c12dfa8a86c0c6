#include "ops/reduction.h"

#include "bitnet/core/error.h"
#include "bitnet/memory/pool.h"
#include "ops/axes.h"
#include "ops/parallel.h"
#include "tensor/element.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <fmt/format.h>

namespace bitnet::ops {
namespace {

struct Split {
  Axes kept, reduced;
};

Split split_axes(const OpCall& call) {
  Split split;
  const Tensor& x = call.inputs[0];
  int next = 0;
  for (int axis = 0; axis < x.ndim(); ++axis) {
    const bool reduced = next < call.params.axis_count && call.params.axes[next] == axis;
    if (reduced) ++next;
    (reduced ? split.reduced : split.kept).add(x.shape()[axis], x.strides()[axis]);
  }
  return split;
}

bool is_extreme(Op op) {
  return op == Op::kMin || op == Op::kMax || op == Op::kArgmin || op == Op::kArgmax;
}

Partial start(Op op) {
  Partial partial;
  if (op == Op::kProd) partial.value = 1;
  if (op == Op::kProd || op == Op::kAll) partial.integer = 1;
  return partial;
}

/// True if the later of two extremes replaces the earlier.
bool replaces(Op op, DType dtype, const Partial& a, const Partial& b) {
  const bool least = op == Op::kMin || op == Op::kArgmin;
  if (is_floating(dtype)) {
    if (std::isnan(a.value) || std::isnan(b.value)) return !std::isnan(a.value);
    return least ? b.value < a.value : b.value > a.value;
  }
  if (!is_signed(dtype)) {
    const auto x = static_cast<uint64_t>(a.integer), y = static_cast<uint64_t>(b.integer);
    return least ? y < x : y > x;
  }
  return least ? b.integer < a.integer : b.integer > a.integer;
}

/// Takes b, of later elements, into a.
void join(Op op, DType dtype, Partial& a, const Partial& b) {
  switch (op) {
    case Op::kVar:
    case Op::kStd: {
      if (b.count == 0) return;
      const auto na = static_cast<double>(a.count), nb = static_cast<double>(b.count);
      const double delta = b.value - a.value;
      a.count += b.count;
      a.value += delta * nb / (na + nb);
      a.m2 += b.m2 + delta * delta * na * nb / (na + nb);
      return;
    }
    case Op::kProd:
      a.value *= b.value;
      a.integer = static_cast<int64_t>(static_cast<uint64_t>(a.integer) * static_cast<uint64_t>(b.integer));
      return;
    case Op::kAny:
      a.integer |= b.integer;
      return;
    case Op::kAll:
      a.integer &= b.integer;
      return;
    default:
      break;
  }
  if (is_extreme(op)) {
    if (b.index >= 0 && (a.index < 0 || replaces(op, dtype, a, b))) a = b;
    return;
  }
  a.value += b.value;
  a.integer = static_cast<int64_t>(static_cast<uint64_t>(a.integer) + static_cast<uint64_t>(b.integer));
}

double variance(const Partial& partial, double ddof) {
  const double divisor = std::max(static_cast<double>(partial.count) - ddof, 0.0);
  return partial.m2 / divisor;  // of nothing 0 / 0, as in NumPy
}

void store_integer(DType dtype, std::byte* at, int64_t value) {
  with_element_type(dtype, [&]<class T>() {
    if constexpr (std::is_integral_v<T>) *reinterpret_cast<T*>(at) = static_cast<T>(value);
  });
}

void finish(const OpCall& call, const Partial& partial, int64_t n, std::byte* at) {
  const DType dtype = call.output.dtype();
  switch (call.info->op) {
    case Op::kMean:
      return store_element(dtype, at, 0, partial.value / static_cast<double>(n));
    case Op::kVar:
      return store_element(dtype, at, 0, variance(partial, call.params.ddof));
    case Op::kStd:
      return store_element(dtype, at, 0, std::sqrt(variance(partial, call.params.ddof)));
    case Op::kArgmin:
    case Op::kArgmax:
      return store_integer(dtype, at, partial.index);
    default:
      return is_floating(dtype) ? store_element(dtype, at, 0, partial.value)
                                : store_integer(dtype, at, partial.integer);
  }
}

Partial reduce_block(const OpCall& call, ReduceKernel kernel, const Axes& reduced, const std::byte* x,
                     int64_t begin, int64_t end) {
  const Op op = call.info->op;
  const bool joins = op == Op::kVar || op == Op::kStd;
  const int64_t bytes = dtype_info(call.dtype).block_bytes;
  const int64_t stride = reduced.inner_stride();
  Partial partial = start(op);
  reduced.for_each_run(begin, end, [&](int64_t n, int64_t offset, int64_t first) {
    if (!joins) return kernel(n, x + offset * bytes, stride, first, partial);
    Partial run;
    kernel(n, x + offset * bytes, stride, first, run);
    join(op, call.dtype, partial, run);
  });
  return partial;
}

void require_elements(const OpCall& call, int64_t n) {
  if (n > 0 || !is_extreme(call.info->op)) return;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{} of no elements has no value", call.info->name),
              "test the size of the axis first");
}

}  // namespace

void run_reduction(OpCall& call, ReduceKernel kernel) {
  if (call.output.numel() == 0) return;
  const auto [kept, reduced] = split_axes(call);
  require_elements(call, reduced.numel);
  const std::byte* x = call.inputs[0].bytes();
  const int64_t bytes = dtype_info(call.dtype).block_bytes;
  std::byte* out = call.output.bytes();
  const int64_t out_bytes = dtype_info(call.output.dtype()).block_bytes;
  const int64_t n = reduced.numel, blocks = std::max<int64_t>(1, (n + kReduceBlock - 1) / kReduceBlock);
  const int64_t outputs = call.output.numel(), work = call.inputs[0].numel();
  if (blocks == 1) {
    const int64_t grain = std::max<int64_t>(1, 4096 / std::max<int64_t>(n, 1));
    parallel_for(*call.context, outputs, grain, work,
                 [&, &kept = kept, &reduced = reduced](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const Partial partial =
                         reduce_block(call, kernel, reduced, x + kept.offset(i) * bytes, 0, n);
                     finish(call, partial, n, out + i * out_bytes);
                   }
                 });
    return;
  }
  std::vector<Partial> partials(static_cast<size_t>(outputs * blocks));
  parallel_for(*call.context, outputs * blocks, 1, work,
               [&, &kept = kept, &reduced = reduced](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t first = i % blocks * kReduceBlock;
                   partials[static_cast<size_t>(i)] =
                       reduce_block(call, kernel, reduced, x + kept.offset(i / blocks) * bytes, first,
                                    std::min(first + kReduceBlock, n));
                 }
               });
  for (int64_t i = 0; i < outputs; ++i) {
    Partial sum = start(call.info->op);
    for (int64_t b = 0; b < blocks; ++b) {
      join(call.info->op, call.dtype, sum, partials[static_cast<size_t>(i * blocks + b)]);
    }
    finish(call, sum, n, out + i * out_bytes);
  }
}

void run_quantile(OpCall& call) {
  if (call.output.numel() == 0) return;
  const auto [kept, reduced] = split_axes(call);
  const double q = call.info->op == Op::kMedian ? 0.5 : call.params.quantile;
  const int64_t n = reduced.numel, bytes = dtype_info(call.dtype).block_bytes;
  parallel_for(*call.context, call.output.numel(), 1, call.inputs[0].numel(),
               [&, &kept = kept, &reduced = reduced](int64_t begin, int64_t end) {
                 const auto values =
                     call.context->scratch_pool().allocate_typed<double>(static_cast<size_t>(n));
                 for (int64_t i = begin; i < end; ++i) {
                   const std::byte* x = call.inputs[0].bytes() + kept.offset(i) * bytes;
                   bool has_nan = n == 0;
                   for (int64_t j = 0; j < n; ++j) {
                     values[static_cast<size_t>(j)] = load_element(call.dtype, x, reduced.offset(j));
                     has_nan = has_nan || std::isnan(values[static_cast<size_t>(j)]);
                   }
                   double result = std::numeric_limits<double>::quiet_NaN();
                   if (!has_nan) {
                     const double position = q * static_cast<double>(n - 1), below = std::floor(position);
                     double* const middle = values.begin() + static_cast<int64_t>(below);
                     std::nth_element(values.begin(), middle, values.end());
                     result = *middle;
                     const double fraction = position - below;
                     if (fraction > 0) {
                       const double next = *std::min_element(middle + 1, values.end());
                       if (next != result) result = std::lerp(result, next, fraction);
                     }
                   }
                   store_element(call.output.dtype(), call.output.bytes(), i, result);
                 }
               });
}

}  // namespace bitnet::ops
