#include "model/linear_encoder.h"

#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "bitnet/quant/block_formats.h"
#include "bitnet/quant/ternary_formats.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace bitnet {
namespace {

double relative_error(float exact, float stored) {
  if (exact == stored) return 0.0;
  return std::fabs(static_cast<double>(stored) - static_cast<double>(exact)) /
         std::fabs(static_cast<double>(exact));
}

/// Calls body(stored row, trits, scale) for the output's rows in order.
template <class Body>
void for_ternary_rows(const OutputTensor& tensor, Body&& body) {
  std::vector<int8_t> trits(static_cast<size_t>(tensor.shape[1]));
  for (int64_t row = 0; row < tensor.shape[0]; ++row) {
    float scale = 0;
    tensor.linear->read_rows(tensor.order.engine(row), 1, trits, {&scale, 1});
    if (scale == 0) std::fill(trits.begin(), trits.end(), int8_t{0});
    body(row, trits, scale);
  }
}

bool all_zero(std::span<const int8_t> trits) {
  return std::all_of(trits.begin(), trits.end(), [](int8_t trit) { return trit == 0; });
}

/// i2_s and hf_ternary: one scale for the tensor. A row of zeros may claim any.
EncodedLinear encode_with_one_scale(const OutputTensor& tensor) {
  EncodedLinear result;
  result.bytes.resize(static_cast<size_t>(output_bytes(tensor)));
  const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  bool known = false;
  std::vector<int8_t> first_row;
  for_ternary_rows(tensor, [&](int64_t row, std::span<const int8_t> trits, float scale) {
    if (row == 0) first_row.assign(trits.begin(), trits.end());
    encode_ternary_rows(tensor.dtype, rows, cols, row, trits, scale, result.bytes);
    if ((known && scale == result.scale) || all_zero(trits)) return;
    if (known) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("rows have different scales ({} and {}), {} holds one for the tensor",
                              result.scale, scale, to_string(tensor.dtype)),
                  "choose tq1_0, tq2_0 or a float type");
    }
    known = true;
    result.scale = scale;
  });
  // The scale is stored with row 0, which may be a row of zeros with another one.
  encode_ternary_rows(tensor.dtype, rows, cols, 0, first_row, result.scale, result.bytes);
  return result;
}

/// tq1_0, tq2_0: every row by itself.
EncodedLinear encode_in_blocks(const OutputTensor& tensor) {
  EncodedLinear result;
  result.bytes.resize(static_cast<size_t>(output_bytes(tensor)));
  const auto row_bytes = static_cast<size_t>(storage_bytes(tensor.dtype, std::array{tensor.shape[1]}));
  for_ternary_rows(tensor, [&](int64_t row, std::span<const int8_t> trits, float scale) {
    const std::span<std::byte> out(result.bytes.data() + static_cast<size_t>(row) * row_bytes, row_bytes);
    encode_ternary_rows(tensor.dtype, 1, tensor.shape[1], 0, trits, scale, out);
    result.scale_error = std::max(result.scale_error, relative_error(scale, f16_to_f32(f32_to_f16(scale))));
  });
  return result;
}

EncodedLinear encode_floats(const OutputTensor& tensor) {
  EncodedLinear result;
  result.bytes.resize(static_cast<size_t>(output_bytes(tensor)));
  const auto cols = static_cast<size_t>(tensor.shape[1]);
  const size_t row_bytes = result.bytes.size() / static_cast<size_t>(tensor.shape[0]);
  std::vector<float> values(cols), stored(cols);
  const auto put = [&](int64_t row) {
    const std::span<std::byte> out(result.bytes.data() + static_cast<size_t>(row) * row_bytes, row_bytes);
    quantize_row(tensor.dtype, values, out);
    if (tensor.dtype == DType::kF32) return;
    dequantize_row(tensor.dtype, out, stored);
    for (size_t i = 0; i < cols; ++i) {
      result.scale_error = std::max(result.scale_error, relative_error(values[i], stored[i]));
    }
  };
  if (tensor.keep_master) {
    for (int64_t row = 0; row < tensor.shape[0]; ++row) {
      tensor.linear->read_float_rows(tensor.order.engine(row), 1, values);
      put(row);
    }
    return result;
  }
  for_ternary_rows(tensor, [&](int64_t row, std::span<const int8_t> trits, float scale) {
    for (size_t i = 0; i < cols; ++i) values[i] = static_cast<float>(trits[i]) * scale;
    put(row);
  });
  return result;
}

}  // namespace

EncodedLinear encode_linear(const OutputTensor& tensor) {
  switch (tensor.dtype) {
    case DType::kI2_S:
    case DType::kHfTernary:
      return encode_with_one_scale(tensor);
    case DType::kTQ1_0:
    case DType::kTQ2_0:
      return encode_in_blocks(tensor);
    default:
      return encode_floats(tensor);
  }
}

}  // namespace bitnet
