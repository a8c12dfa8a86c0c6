#pragma once

#include "model/tensor_output.h"

#include <cstddef>
#include <vector>

namespace bitnet {

/// A linear layer as one output type holds it.
struct EncodedLinear {
  std::vector<std::byte> bytes;
  float scale = 1.0f;        ///< W = trit * scale; of types that hold one scale for the tensor
  double scale_error = 0.0;  ///< largest relative error of a stored scale or weight
};

/// Throws kUnsupported if rows have different scales and the type holds one for the tensor.
[[nodiscard]] EncodedLinear encode_linear(const OutputTensor& tensor);

}  // namespace bitnet
