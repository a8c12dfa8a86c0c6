#pragma once

// One element of any tensor type to and from double: the slow path that names the arithmetic of conversions.

#include "bitnet/core/dtype.h"
#include "bitnet/core/half.h"
#include "bitnet/tensor/dtype_of.h"

#include <cstddef>
#include <cstdint>

namespace bitnet {

[[noreturn]] void throw_not_plain(DType dtype);

/// Calls body.template operator()<T>() with the C++ type of a plain dtype; throws kUnsupported for others.
template <class Body>
decltype(auto) with_element_type(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF32:
      return body.template operator()<float>();
    case DType::kF16:
      return body.template operator()<F16>();
    case DType::kBF16:
      return body.template operator()<BF16>();
    case DType::kF64:
      return body.template operator()<double>();
    case DType::kI8:
      return body.template operator()<int8_t>();
    case DType::kI16:
      return body.template operator()<int16_t>();
    case DType::kI32:
      return body.template operator()<int32_t>();
    case DType::kI64:
      return body.template operator()<int64_t>();
    case DType::kU8:
      return body.template operator()<uint8_t>();
    case DType::kU16:
      return body.template operator()<uint16_t>();
    case DType::kU32:
      return body.template operator()<uint32_t>();
    case DType::kU64:
      return body.template operator()<uint64_t>();
    case DType::kBool:
      return body.template operator()<bool>();
    default:
      throw_not_plain(dtype);
  }
}
inline double widen(F16 value) {
  return f16_to_f32(value.bits);
}
inline double widen(BF16 value) {
  return bf16_to_f32(value.bits);
}
template <class T>
double widen(T value) {
  return static_cast<double>(value);
}

/// Element `index`, counted from `data`, of a plain or packed type; of quantized types the code.
double load_element(DType dtype, const std::byte* data, int64_t index);

/// Rounds `value` to the plain type, once, to nearest even, and stores it.
/// Throws kOutOfRange for NaN or a value beyond an integer type's range.
void store_element(DType dtype, std::byte* data, int64_t index, double value);

}  // namespace bitnet
