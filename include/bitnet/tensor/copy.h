#pragma once

#include "bitnet/tensor/tensor.h"

namespace bitnet {

/// A row-major copy with a storage of its own, always. Host tensors only; kDeviceMismatch otherwise.
[[nodiscard]] Tensor clone(const Tensor& tensor);

/// The tensor itself if it is contiguous, otherwise clone(tensor).
[[nodiscard]] Tensor contiguous(const Tensor& tensor);

/// Writes the elements of `from` into those of `to`, whatever their strides; shapes (from broadcasts to `to`)
/// and dtypes must agree: kShapeMismatch, kDTypeMismatch. The two may not overlap unless they are the same
/// view.
void copy_into(const Tensor& from, Tensor to);

}  // namespace bitnet
