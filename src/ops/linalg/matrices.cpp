#include "ops/linalg/matrices.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace bitnet::linalg {

Tensor Batch::result(std::initializer_list<int64_t> axes, std::optional<DType> dtype) const {
  Shape shape = leading;
  shape.insert(shape.end(), axes);
  return zeros(shape, dtype.value_or(tensor.dtype()));
}

Batch check_matrices(std::string_view function, const Tensor& a, MatrixForm form) {
  const auto fail = [&](ErrorCode code, std::string_view wanted, std::string hint = {}) {
    Error error(code, fmt::format("{}: needs {}, found {}", function, wanted, to_string(a)), std::move(hint));
    error.with_operation(std::string(function), {{a.dtype(), Shape(a.shape().begin(), a.shape().end())}});
    return error;
  };
  if (!a.defined()) throw fail(ErrorCode::kInvalidTensor, "a tensor");
  if (a.device() != kCpuDevice) throw fail(ErrorCode::kDeviceMismatch, "a tensor of the host");
  if (a.dtype() != DType::kF32 && a.dtype() != DType::kF64) {
    throw fail(ErrorCode::kDTypeMismatch, "f32 or f64", "convert it with to_dtype");
  }
  if (a.ndim() < 2) throw fail(ErrorCode::kShapeMismatch, "at least two axes");
  if (form == MatrixForm::kSquare && a.size(-1) != a.size(-2)) {
    throw fail(ErrorCode::kShapeMismatch, "square matrices");
  }
  // LAPACK counts in 32 bits, workspaces of several n^2 elements included.
  if (std::max(a.size(-1), a.size(-2)) > (1 << 14) &&
      a.size(-1) * a.size(-2) > std::numeric_limits<int>::max() / 8) {
    throw fail(ErrorCode::kUnsupported, "matrices of at most 2^28 elements");
  }
  Batch batch;
  batch.function = function;
  batch.tensor = contiguous(a);
  batch.leading.assign(a.shape().begin(), a.shape().end() - 2);
  batch.count = element_count(batch.leading);
  batch.rows = static_cast<int>(a.size(-2));
  batch.columns = static_cast<int>(a.size(-1));
  check_finite(function, batch.tensor);
  return batch;
}

void check_finite(std::string_view function, const Tensor& contiguous_tensor) {
  with_real(contiguous_tensor.dtype(), [&]<class Real>() {
    const auto values = contiguous_tensor.values<Real>();
    const auto found = std::ranges::find_if(values, [](Real value) { return !std::isfinite(value); });
    if (found == values.end()) return;
    throw Error(ErrorCode::kNumerical,
                fmt::format("{}: operands must be finite, found {} at element {} of {}", function, *found,
                            found - values.begin(), to_string(contiguous_tensor.shape())));
  });
}

void no_result(const Batch& batch, int64_t index, std::string_view reason, std::string_view hint) {
  const std::string which = batch.leading.empty() ? "" : fmt::format("matrix {}: ", index);
  throw Error(ErrorCode::kComputation, fmt::format("{}: {}{}", batch.function, which, reason),
              std::string(hint));
}

void check_info(std::string_view function, int info) {
  if (info >= 0) return;
  throw Error(ErrorCode::kInternal, fmt::format("{}: LAPACK refused argument {}", function, -info));
}

}  // namespace bitnet::linalg
