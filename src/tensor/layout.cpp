#include "tensor/layout.h"

#include "bitnet/core/error.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {

void check_rank(std::span<const int64_t> shape) {
  if (shape.size() <= kMaxDims) return;
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("a tensor has at most {} dimensions; {} has {}", kMaxDims, to_string(shape), shape.size()),
      "reshape it to fewer, larger ones");
}

int normalize_axis(int axis, int ndim, std::string_view function) {
  if (axis >= -ndim && axis < ndim) return axis < 0 ? axis + ndim : axis;
  throw Error(ErrorCode::kOutOfRange,
              fmt::format("{}: axis {} of a tensor with {} dimensions", function, axis, ndim),
              ndim == 0 ? "a scalar has no axes" : fmt::format("use {} to {}", -ndim, ndim - 1));
}

std::vector<int64_t> contiguous_strides(std::span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

Shape broadcast_shapes(std::span<const int64_t> a, std::span<const int64_t> b) {
  const size_t ndim = std::max(a.size(), b.size());
  Shape result(ndim);
  for (size_t i = 0; i < ndim; ++i) {  // from the last axis
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1) {
      throw Error(
          ErrorCode::kBroadcast,
          fmt::format("the shapes {} and {} do not broadcast: axis {} from the end has sizes {} and {}",
                      to_string(a), to_string(b), i + 1, x, y),
          "sizes must be equal, or one of them 1");
    }
    result[ndim - 1 - i] = x == 1 ? y : x;
  }
  return result;
}

}  // namespace bitnet
