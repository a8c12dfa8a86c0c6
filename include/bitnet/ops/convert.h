#pragma once

#include "bitnet/tensor/tensor.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace bitnet {

enum class Rounding : uint8_t {
  kNearestEven,
  kStochastic,  ///< up with the probability of the distance from below: element i by word i of Philox(seed)
};

/// What happens to values beyond an integer type (floats become infinite, codes of quantized types saturate).
enum class Overflow : uint8_t {
  kThrow,     ///< kOutOfRange; of NaN too
  kSaturate,  ///< the nearest value of the type; NaN becomes 0
};

struct ConversionOptions {
  Rounding rounding = Rounding::kNearestEven;
  Overflow overflow = Overflow::kThrow;
  std::optional<uint64_t> seed;  ///< of kStochastic; none: the context's
  /// Of a quantized result. None: the source's if that is quantized too (codes are kept), otherwise scale 1.
  std::optional<Quantization> quantization;
  bool may_overwrite = false;  ///< permits kInPlace
};

enum class ConversionStrategy : uint8_t {
  kZeroCopy,   ///< the type is that already: the tensor itself
  kInPlace,    ///< the source's bytes are overwritten: it is the only owner, and the new type is not larger
  kStreaming,  ///< more than 1 MB: in chunks of 1 MB, on all threads, strided sources gathered chunk by chunk
  kPlain,      ///< one pass into new memory
};
[[nodiscard]] std::string_view to_string(ConversionStrategy strategy);

/// What a conversion will do, before it does.
struct ConversionPlan {
  ConversionStrategy strategy = ConversionStrategy::kPlain;
  int64_t bytes_read = 0, bytes_written = 0;
  int64_t bytes_allocated = 0;  ///< for the result; scratch is 8 KB a thread
  bool exact = false;           ///< every value of the source's type is one of the result's
  double least_seconds = 0;     ///< on one core: the bytes at the measured bandwidth
};

/// The elements as another type, row-major. Rounds once. Every pair of tensor types (plain, packed,
/// quantized): a quantized source stands for scale (code - zero point), and plain results hold that. To bool:
/// x != 0. To kBinary: -1 below 0, +1 elsewhere. Codes of a quantized result are round(x / scale) + zero
/// point. Throws kOutOfRange (Overflow), kDeviceMismatch for a device's tensor, kUnsupported for file
/// formats, kShapeMismatch if scales do not fit.
[[nodiscard]] Tensor to_dtype(Tensor x, DType dtype, const ConversionOptions& options = {});

/// The strategy that to_dtype would take.
[[nodiscard]] ConversionPlan plan_conversion(const Tensor& x, DType dtype,
                                             const ConversionOptions& options = {});

}  // namespace bitnet
