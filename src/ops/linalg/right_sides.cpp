#include "ops/linalg/right_sides.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/copy.h"
#include "bitnet/tensor/create.h"

#include <fmt/format.h>

namespace bitnet::linalg {
namespace {

/// For each system of `shape`, in row-major order, the index of its matrix in a batch of shape `own`.
std::vector<int64_t> broadcast_indices(const Shape& own, const Shape& shape) {
  const Tensor indices = arange(0, static_cast<double>(element_count(own)), 1, DType::kI64).reshape(own);
  return to_vector<int64_t>(indices.expand(shape));
}

}  // namespace

RightSides::RightSides(const Batch& a, const Tensor& b)
    : rows_(a.rows), vector_(b.defined() && b.ndim() == 1) {
  const Tensor matrices = vector_ ? b.unsqueeze(1) : b;
  const Batch checked = check_matrices(a.function, matrices, MatrixForm::kAny);
  if (b.dtype() != a.tensor.dtype()) {
    throw Error(ErrorCode::kDTypeMismatch,
                fmt::format("{}: both operands must have one type, found {} and {}", a.function,
                            to_string(a.tensor.dtype()), to_string(b.dtype())));
  }
  if (checked.rows != a.rows) {
    throw Error(ErrorCode::kShapeMismatch,
                fmt::format("{}: A has {} rows, B has {}", a.function, a.rows, checked.rows));
  }
  columns_ = checked.columns;
  leading_ = broadcast_shapes(a.leading, checked.leading);
  matrices_ = broadcast_indices(a.leading, leading_);
  Shape shape = leading_;
  shape.insert(shape.end(), {rows_, columns_});
  tensor_ = contiguous(checked.tensor.expand(shape));
}

Tensor RightSides::result(int unknowns) const {
  Shape shape = leading_;
  shape.push_back(unknowns);
  if (!vector_) shape.push_back(columns_);
  return zeros(shape, tensor_.dtype());
}

}  // namespace bitnet::linalg
