#include "bitnet/core/dtype.h"
#include "bitnet/core/error.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

namespace bitnet {
namespace {

bool between(DType dtype, DType first, DType last) {
  return dtype >= first && dtype <= last;
}

template <class T>
ValueRange range_of() {
  return {static_cast<double>(std::numeric_limits<T>::lowest()),
          static_cast<double>(std::numeric_limits<T>::max())};
}

DType signed_of(int64_t bytes) {
  return bytes == 1 ? DType::kI8 : bytes == 2 ? DType::kI16 : bytes == 4 ? DType::kI32 : DType::kI64;
}

DType promote_integers(DType a, DType b) {
  const int64_t a_bytes = dtype_info(a).block_bytes, b_bytes = dtype_info(b).block_bytes;
  if (is_signed(a) == is_signed(b)) return a_bytes >= b_bytes ? a : b;
  const auto [signed_bytes, unsigned_bytes] =
      is_signed(a) ? std::pair(a_bytes, b_bytes) : std::pair(b_bytes, a_bytes);
  if (unsigned_bytes == 8) return DType::kF64;
  return signed_of(std::max(signed_bytes, 2 * unsigned_bytes));
}

}  // namespace

bool is_floating(DType dtype) {
  return between(dtype, DType::kF32, DType::kF64);
}
bool is_integer(DType dtype) {
  return between(dtype, DType::kI8, DType::kU64);
}
bool is_signed(DType dtype) {
  return is_floating(dtype) || between(dtype, DType::kI8, DType::kI64) ||
         between(dtype, DType::kTernary, DType::kQInt4);
}
bool is_packed(DType dtype) {
  return dtype == DType::kTernary || dtype == DType::kBinary || dtype == DType::kInt4 ||
         dtype == DType::kQInt4;
}
bool is_quantized(DType dtype) {
  return between(dtype, DType::kTernary, DType::kQInt4);
}
bool is_plain(DType dtype) {
  return between(dtype, DType::kF32, DType::kBool);
}

double bits_per_element(DType dtype) {
  const DTypeInfo& info = dtype_info(dtype);
  return 8.0 * info.block_bytes / info.block_elements;
}

ValueRange value_range(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return range_of<float>();
    case DType::kF16:
      return {-65504, 65504};
    case DType::kBF16:
      return {-0x1.FEp127, 0x1.FEp127};
    case DType::kF64:
      return range_of<double>();
    case DType::kI8:
    case DType::kQInt8:
      return range_of<int8_t>();
    case DType::kI16:
      return range_of<int16_t>();
    case DType::kI32:
      return range_of<int32_t>();
    case DType::kI64:
      return range_of<int64_t>();
    case DType::kU8:
      return range_of<uint8_t>();
    case DType::kU16:
      return range_of<uint16_t>();
    case DType::kU32:
      return range_of<uint32_t>();
    case DType::kU64:
      return range_of<uint64_t>();
    case DType::kBool:
      return {0, 1};
    case DType::kTernary:
    case DType::kBinary:
      return {-1, 1};
    case DType::kInt4:
    case DType::kQInt4:
      return {-8, 7};
    default:
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format("{} is a file format, whose values have a scale in each block", to_string(dtype)),
          "decode it to f32 first");
  }
}

DType promote_types(DType a, DType b) {
  for (const DType dtype : {a, b}) {
    if (!is_plain(dtype)) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{} and {} meet in no type: {} is packed or quantized", to_string(a),
                              to_string(b), to_string(dtype)),
                  "convert it to a plain type first, e.g. with to_dtype(x, DType::kF32)");
    }
  }
  if (a == b || b == DType::kBool) return a;
  if (a == DType::kBool) return b;
  if (is_floating(a) != is_floating(b)) return is_floating(a) ? a : b;
  if (!is_floating(a)) return promote_integers(a, b);
  if (a == DType::kF64 || b == DType::kF64) return DType::kF64;
  return DType::kF32;  // f16 with bf16, or either with f32
}

}  // namespace bitnet
