#pragma once

#include "bitnet/model/checkpoint.h"
#include "bitnet/model/convert.h"
#include "model/ternary_source.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace bitnet {

/// One tensor of an output file and where its values come from: exactly one of the four sources.
struct OutputTensor {
  std::string name;  ///< in the output
  DType dtype = DType::kF32;
  Shape shape;  ///< of the matrix; kHfTernary is stored as [rows / 4, cols]
  const DenseSource* dense = nullptr;
  const TernarySource* linear = nullptr;
  std::vector<float> values;                                           ///< f32, e.g. RoPE factors
  std::function<void(int64_t row, std::span<float> values)> generate;  ///< called from several threads
  RowOrder order;              ///< of a linear layer's rows in the output
  bool keep_master = false;    ///< write a linear layer's float weights, not trits times scale
  bool scale_follows = false;  ///< the next tensor holds this one's scale, as f32 [1]
};

/// What the writing of tensors found out about the values. Worst relative errors by kind of rounding.
struct OutputFindings {
  std::map<std::string, double> roundings;  ///< "token_embd.weight: f32 to f16" -> largest relative error
  int64_t ternarized = 0;                   ///< linear layers whose master weights became trits
};

/// Writes all tensors' bytes in order through `write`, several at a time in memory (the file's pages of a
/// finished source are dropped), encoding on all threads. Errors name the tensor. Throws kUnsupported where a
/// type cannot hold a tensor.
OutputFindings write_tensors(const std::vector<OutputTensor>& tensors,
                             const std::function<void(std::span<const std::byte>)>& write,
                             const std::function<void(int64_t done, int64_t total)>& progress);

/// Bytes of the tensor; throws kUnsupported with its name if the type cannot hold its shape.
[[nodiscard]] int64_t output_bytes(const OutputTensor& tensor);

}  // namespace bitnet
