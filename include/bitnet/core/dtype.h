#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

/// Every element type of the project: of tensors in memory and of tensors in files.
/// Block types store `block_elements` weights in `block_bytes` bytes (docs/FORMATS.md has the layouts).
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kTernary,  ///< {-1, 0, +1}, 2 bits, four per byte, lowest bits first, code = w + 1
  kBinary,   ///< {-1, +1}, 1 bit
  kInt4,     ///< two's complement nibbles
  kQInt8,    ///< int8 with scale (and zero point) beside it
  kQInt4,    ///< int4 with scale (and zero point) beside it
  // File formats.
  kHfTernary,  ///< Hugging Face packed uint8: byte (r, c) of [N/4, K] holds rows r, r+R, r+2R, r+3R, R = N/4
  kQ4_0,       ///< GGUF: 32 weights, f16 scale, 18 bytes
  kQ8_0,       ///< GGUF: 32 weights, f16 scale, 34 bytes
  kQ6_K,       ///< GGUF: 256 weights, 210 bytes
  kTQ1_0,      ///< GGUF: 256 ternary weights, f16 scale, 54 bytes
  kTQ2_0,      ///< GGUF: 256 ternary weights, f16 scale, 66 bytes
  kI2_S,    ///< GGUF, microsoft: 128 ternary weights in 32 bytes, one f32 scale per tensor in a 32-byte tail
  kIQ2_BN,  ///< GGUF, ik: per row an f32 scale, then 64 ternary weights in 16 bytes
};

struct DTypeInfo {
  std::string_view name;   ///< "f32", "tq1_0", ...
  int32_t block_elements;  ///< weights in a block; 1 for plain types
  int32_t block_bytes;     ///< bytes of a block
};

[[nodiscard]] const DTypeInfo& dtype_info(DType dtype);
[[nodiscard]] std::string_view to_string(DType dtype);
/// The type of that name (case-insensitive), or nothing.
[[nodiscard]] std::optional<DType> dtype_from_name(std::string_view name);
/// True for types whose values are ternary.
[[nodiscard]] bool is_ternary(DType dtype);

/// Kinds of the types that tensors compute with (kF32 to kQInt4); false for file formats.
[[nodiscard]] bool is_floating(DType dtype);
[[nodiscard]] bool is_integer(DType dtype);  ///< kI8 to kU64, not kBool
[[nodiscard]] bool is_signed(DType dtype);   ///< has negative values
[[nodiscard]] bool is_packed(DType dtype);   ///< several elements share a byte: kTernary kBinary kInt4 kQInt4
[[nodiscard]] bool is_quantized(
    DType dtype);                          ///< meaning needs a scale: kTernary kBinary kInt4 kQInt8 kQInt4
[[nodiscard]] bool is_plain(DType dtype);  ///< kF32 to kBool: one element, whole bytes, no scale

/// Bits that one element occupies: 8 * block bytes / block elements.
[[nodiscard]] double bits_per_element(DType dtype);

/// Smallest and largest finite value, as double (kI64 and kU64 rounded to it).
struct ValueRange {
  double lowest = 0, highest = 0;
};
/// Throws kUnsupported for file formats.
[[nodiscard]] ValueRange value_range(DType dtype);

/// The type in which a and b meet. Bool gives way to all; among integers the smallest that holds both; an
/// integer and a float: the float; f16 and bf16: f32; u64 with a signed integer: f64, as in NumPy. Throws
/// kUnsupported if one is not plain: packed and quantized values are converted by name.
[[nodiscard]] DType promote_types(DType a, DType b);

/// A tensor's dimensions, outermost first, as in NumPy. (GGUF stores them innermost first.)
using Shape = std::vector<int64_t>;

/// Product of the dimensions. Throws kCorruptData if a dimension is negative or the product overflows int64.
[[nodiscard]] int64_t element_count(std::span<const int64_t> shape);
[[nodiscard]] std::string to_string(std::span<const int64_t> shape);

/// Bytes of a tensor of this type and shape, tails and per-row scales included.
/// Throws kUnsupported if the row length (last dimension; for kI2_S the element count; for kHfTernary the row
/// count) does not fit the block, kCorruptData on overflow.
[[nodiscard]] int64_t storage_bytes(DType dtype, std::span<const int64_t> shape);

}  // namespace bitnet
