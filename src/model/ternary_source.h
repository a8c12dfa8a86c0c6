#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/model/checkpoint.h"

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace bitnet {

/// From the engine's order of rows to the file's.
class RowOrder {
 public:
  RowOrder() = default;
  /// Rows of q or k as llama GGUF files hold them, for interleaved RoPE: within each head, stored row 2i + j
  /// is the engine's (half-split) row i + j * head_dim / 2, j in {0, 1}.
  static RowOrder interleaved(int64_t head_dim);

  [[nodiscard]] bool identity() const { return head_dim_ == 0; }
  /// The stored row that holds the engine's row.
  [[nodiscard]] int64_t stored(int64_t row) const;
  /// The engine's row that lies at the stored row.
  [[nodiscard]] int64_t engine(int64_t stored_row) const;

 private:
  int64_t head_dim_ = 0;
};

/// One linear layer's tensor in a file.
struct LinearBytes {
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  std::span<const std::byte> bytes;
  RowOrder order;
  /// What the format's own scale is multiplied by: HF's weight_scale or its inverse, GGUF's ".scale" tensor,
  /// or 1.
  float factor = 1.0f;
  /// Names file and tensor in errors.
  std::string label;
  /// False where nothing says that the model is a BitNet: then only exactly ternary float weights are taken.
  bool may_quantize = true;
};

/// Throws kUnsupported for types that hold neither trits nor floats (q8_0, ...).
[[nodiscard]] std::unique_ptr<TernarySource> make_ternary_source(LinearBytes tensor);

}  // namespace bitnet
