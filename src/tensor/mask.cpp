#include "bitnet/tensor/mask.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <algorithm>

#include <fmt/format.h>

namespace bitnet {
namespace {

/// [rows, columns] with allowed(row, column).
template <class Allowed>
Tensor fill_mask(int64_t rows, int64_t columns, std::string_view function, Allowed&& allowed) {
  if (rows < 0 || columns < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: sizes must not be negative, found {} and {}", function, rows, columns));
  }
  Tensor mask = empty({rows, columns}, DType::kBool);
  auto* value = mask.data<bool>();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) *value++ = allowed(row, column);
  }
  return mask;
}

void require_bool(const Tensor& tensor, std::string_view function) {
  if (tensor.defined() && tensor.dtype() == DType::kBool) return;
  throw Error(ErrorCode::kDTypeMismatch, fmt::format("{}: needs a bool tensor, found {}", function,
                                                     tensor.defined() ? to_string(tensor.dtype()) : "none"));
}

void require_tokens(const Tensor& tokens, std::string_view function) {
  require_bool(tokens, function);
  if (tokens.ndim() == 2) return;
  throw Error(ErrorCode::kShapeMismatch,
              fmt::format("{}: needs tokens of shape [B, L], found {}", function, to_string(tokens.shape())));
}

}  // namespace

Tensor causal_mask(int64_t queries, int64_t keys) {
  const int64_t shift = keys - queries;
  return fill_mask(queries, keys, "causal_mask",
                   [=](int64_t query, int64_t key) { return key <= query + shift; });
}

Tensor sliding_window_mask(int64_t queries, int64_t keys, int64_t window) {
  if (window < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("sliding_window_mask: the window must not be negative, found {}", window));
  }
  const int64_t shift = keys - queries;
  return fill_mask(queries, keys, "sliding_window_mask", [=](int64_t query, int64_t key) {
    const int64_t distance = key - (query + shift);
    return distance < window && -distance < window;
  });
}

Tensor block_diagonal_mask(std::span<const int64_t> lengths) {
  int64_t total = 0;
  for (const int64_t length : lengths) {
    if (length < 0 || __builtin_add_overflow(total, length, &total)) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("block_diagonal_mask: a length of {} is negative or too large", length));
    }
  }
  Tensor mask = zeros({total, total}, DType::kBool);
  auto* row = mask.data<bool>();
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i, row += total) std::fill_n(row + begin, length, true);
    begin += length;
  }
  return mask;
}

Tensor padding_mask(const Tensor& tokens) {
  require_tokens(tokens, "padding_mask");
  return tokens.unsqueeze(1);
}

Tensor bidirectional_mask(const Tensor& tokens) {
  require_tokens(tokens, "bidirectional_mask");
  return combine(tokens.unsqueeze(2), MaskOp::kAnd, tokens.unsqueeze(1));
}

Tensor combine(const Tensor& a, MaskOp op, const Tensor& b) {
  require_bool(a, "combine");
  require_bool(b, "combine");
  const Shape shape = broadcast_shapes(a.shape(), b.shape());
  Tensor result = clone(a.expand(shape));
  const Tensor other = contiguous(b.expand(shape));
  const auto from = other.values<bool>();
  auto* to = result.data<bool>();
  const auto apply = [&](auto&& function) { std::transform(from.begin(), from.end(), to, to, function); };
  switch (op) {
    case MaskOp::kAnd:
      apply([](bool x, bool y) { return x && y; });
      break;
    case MaskOp::kOr:
      apply([](bool x, bool y) { return x || y; });
      break;
    case MaskOp::kXor:
      apply([](bool x, bool y) { return x != y; });
      break;
  }
  return result;
}

MaskStatistics mask_statistics(const Tensor& mask) {
  require_bool(mask, "mask_statistics");
  if (mask.ndim() == 0) {
    throw Error(ErrorCode::kShapeMismatch, "mask_statistics: needs at least one axis, found a scalar");
  }
  MaskStatistics result;
  result.elements = mask.numel();
  const int64_t keys = mask.size(-1);
  const Shape shape(mask.shape().begin(), mask.shape().end() - 1);
  result.queries = element_count(shape);
  const Tensor dense = contiguous(mask);
  const bool* row = dense.data<bool>();
  result.fewest = result.queries == 0 ? 0 : keys;
  for (int64_t query = 0; query < result.queries; ++query, row += keys) {
    const int64_t allowed = std::count(row, row + keys, true);
    result.allowed += allowed;
    result.blind_queries += allowed == 0 ? 1 : 0;
    result.fewest = std::min(result.fewest, allowed);
    result.most = std::max(result.most, allowed);
  }
  return result;
}

}  // namespace bitnet
