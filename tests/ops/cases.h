#pragma once

// Operands and parameters for any row of the table: what lets one test cover all operations.

#include "bitnet/ops/convert.h"
#include "bitnet/ops/ops.h"
#include "bitnet/tensor/create.h"
#include "ops/dispatch.h"

#include <algorithm>
#include <random>
#include <vector>

namespace bitnet::ops {

inline constexpr DType kPlainTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8,
                                        DType::kI16, DType::kI32, DType::kI64,  DType::kU8,  DType::kU16,
                                        DType::kU32, DType::kU64, DType::kBool};

/// Values that a type holds and that make no operation of the table undefined or chaotic: floats in (-3, 3),
/// integers that fill a byte.
inline Tensor random_tensor(std::span<const int64_t> shape, DType dtype, std::mt19937& random) {
  const Tensor values = empty(shape, DType::kF64);
  auto* first = Tensor(values).data<double>();
  const bool integer = !is_floating(dtype);
  const double low = dtype == DType::kBool ? 0 : !integer ? -3 : is_signed(dtype) ? -128 : 0;
  const double high = dtype == DType::kBool ? 1.999 : !integer ? 3 : is_signed(dtype) ? 127.999 : 255.999;
  std::uniform_real_distribution<double> uniform(low, high);
  for (int64_t i = 0; i < values.numel(); ++i)
    first[i] = integer ? std::floor(uniform(random)) : uniform(random);
  return to_dtype(values, dtype);
}

struct Case {
  std::vector<Tensor> operands;
  OpParams params;
};

/// Operands for a row, of one dtype (and what it demands beside that).
inline Case make_case(const OpInfo& info, std::span<const int64_t> shape, DType dtype, std::mt19937& random) {
  Case result;
  result.params.eps = 1e-5;
  result.params.quantile = 0.3;
  result.params.ddof = 1;
  result.params.position = 5;
  result.params.length = shape.size() < 2 ? 1 : std::max<int64_t>(1, shape[shape.size() - 2]);
  for (int k = 0; k < info.operands; ++k) {
    const bool condition = info.op == Op::kWhere && k == 0;
    result.operands.push_back(random_tensor(shape, condition ? DType::kBool : dtype, random));
  }
  if (info.op == Op::kMatmul && shape.size() > 1) {
    result.operands[1] = result.operands[1].transpose(-1, -2);
  }
  if (info.type == OperationType::kConvolution) {
    const bool two = info.op == Op::kConv2d;
    result.operands[0] = random_tensor(two ? Shape{2, 4, 7, 9} : Shape{2, 4, 9}, dtype, random);
    result.operands[1] = random_tensor(two ? Shape{6, 2, 3, 2} : Shape{6, 2, 3}, dtype, random);
    result.operands[2] = random_tensor(Shape{6}, dtype, random);
    result.params.groups = 2;
    result.params.stride = {2, 1};
    result.params.padding = {1, 2};
    result.params.dilation = {1, 2};
  }
  const bool positive =
      info.op == Op::kSqrt || info.op == Op::kRsqrt || info.op == Op::kLog || info.op == Op::kPow;
  if (positive && dtype != DType::kBool) result.operands[0] = add(abs(result.operands[0]), 0.25);
  if (info.op == Op::kLogSoftmaxBackward) {  // the second is a logarithm of something below 1
    Tensor& y = result.operands[1];
    y = neg(abs(is_floating(dtype) ? y : to_dtype(y, DType::kF32)));
  }
  if (info.op == Op::kEmbedding) {
    const int64_t rows = std::max<int64_t>(1, result.operands[0].size(0));
    result.operands[1] = randint({std::vector<int64_t>{2, 3}}, 0, rows, {1, 2}, DType::kI32);
  }
  return result;
}

inline Tensor run(const OpInfo& info, const Case& given) {
  const auto& x = given.operands;
  switch (x.size()) {
    case 1:
      return dispatch(info.op, {&x[0]}, given.params);
    case 2:
      return dispatch(info.op, {&x[0], &x[1]}, given.params);
    default:
      return dispatch(info.op, {&x[0], &x[1], &x[2]}, given.params);
  }
}

}  // namespace bitnet::ops
