#include "ops/contraction/convolve.h"

#include "bitnet/memory/pool.h"
#include "ops/contraction/gemm.h"
#include "ops/parallel.h"

#include <algorithm>
#include <limits>

namespace bitnet::ops {
namespace {

/// Positions at a time: columns of about 1 MB, which stay in the second cache.
int64_t positions_at_once(const Convolution& conv) {
  constexpr int64_t kElements = int64_t{1} << 18;
  const int64_t wanted = std::max<int64_t>(64, kElements / std::max<int64_t>(1, conv.depth()) / 64 * 64);
  return std::min(wanted, conv.positions());
}

/// columns[k, p] for positions [first, first + count): what tap k multiplies at position first + p.
template <class Real>
void fill_columns(const Convolution& conv, const Real* x, int64_t first, int64_t count, Real* columns) {
  for (int64_t c = 0; c < conv.channels; ++c, x += conv.input_size()) {
    for (int64_t i = 0; i < conv.kernel[0]; ++i) {
      for (int64_t j = 0; j < conv.kernel[1]; ++j) {
        int64_t row = first / conv.output[1], column = first % conv.output[1];
        for (int64_t p = 0; p < count; ++p) {
          const int64_t y = row * conv.stride[0] + i * conv.dilation[0] - conv.padding[0];
          const int64_t z = column * conv.stride[1] + j * conv.dilation[1] - conv.padding[1];
          const bool inside = y >= 0 && y < conv.input[0] && z >= 0 && z < conv.input[1];
          *columns++ = inside ? x[y * conv.input[1] + z] : Real{0};
          if (++column == conv.output[1]) {
            column = 0;
            ++row;
          }
        }
      }
    }
  }
}

/// All outputs of one image and group at `count` positions.
template <class Real>
void convolve_part(const Convolution& conv, const ConvolutionData<Real>& data, int64_t image_and_group,
                   int64_t first, int64_t count, Real* columns) {
  const int64_t output = image_and_group % conv.groups * conv.outputs;
  Real* y = data.y + image_and_group * conv.outputs * conv.positions() + first;
  fill_columns(conv, data.x + image_and_group * conv.channels * conv.input_size(), first, count, columns);
  if (conv.depth() > 0) {
    gemm(GemmProblem<Real>{conv.outputs,
                           conv.depth(),
                           count,
                           {data.w + output * conv.depth(), conv.depth(), false},
                           {columns, count, false},
                           y,
                           conv.positions()});
  }
  for (int64_t o = 0; o < conv.outputs; ++o, y += conv.positions()) {
    if (conv.depth() == 0) std::fill_n(y, count, Real{0});
    if (data.bias == nullptr) continue;
    const Real shift = data.bias[output + o];
    for (int64_t p = 0; p < count; ++p) y[p] += shift;
  }
}

}  // namespace

int64_t column_bytes(const Convolution& conv, int64_t element_bytes) {
  return conv.depth() * positions_at_once(conv) * element_bytes;
}

template <class Real>
void convolve(const Convolution& conv, const ConvolutionData<Real>& data, const ExecutionContext& context) {
  if (conv.batch * conv.groups * conv.outputs * conv.positions() == 0) return;
  const int64_t at_once = positions_at_once(conv);
  const int64_t parts = (conv.positions() + at_once - 1) / at_once;
  const int64_t images = conv.batch * conv.groups, tasks = images * parts;
  const int64_t work = conv.outputs * conv.positions() * std::max<int64_t>(1, conv.depth());
  parallel_for(context, tasks, 1, std::min(work, std::numeric_limits<int64_t>::max() / images) * images,
               [&](int64_t begin, int64_t end) {
                 const auto columns =
                     context.scratch_pool().allocate_typed<Real>(static_cast<size_t>(conv.depth() * at_once));
                 for (int64_t task = begin; task < end; ++task) {
                   const int64_t first = task % parts * at_once;
                   convolve_part(conv, data, task / parts, first, std::min(at_once, conv.positions() - first),
                                 columns.data());
                 }
               });
}

template void convolve(const Convolution& conv, const ConvolutionData<float>& data,
                       const ExecutionContext& context);
template void convolve(const Convolution& conv, const ConvolutionData<double>& data,
                       const ExecutionContext& context);

}  // namespace bitnet::ops
