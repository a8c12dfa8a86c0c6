#pragma once

#include "bitnet/core/dtype.h"

#include <cstdint>

namespace bitnet {

/// binary16 and bfloat16 as types of their own; conversions are those of bitnet/core/half.h.
struct F16 {
  uint16_t bits = 0;
  friend bool operator==(const F16&, const F16&) = default;
};
struct BF16 {
  uint16_t bits = 0;
  friend bool operator==(const BF16&, const BF16&) = default;
};

namespace detail {
template <class T>
struct DTypeOf;
template <DType value_>
struct DTypeIs {
  static constexpr DType value = value_;
};
template <>
struct DTypeOf<float> : DTypeIs<DType::kF32> {};
template <>
struct DTypeOf<F16> : DTypeIs<DType::kF16> {};
template <>
struct DTypeOf<BF16> : DTypeIs<DType::kBF16> {};
template <>
struct DTypeOf<double> : DTypeIs<DType::kF64> {};
template <>
struct DTypeOf<int8_t> : DTypeIs<DType::kI8> {};
template <>
struct DTypeOf<int16_t> : DTypeIs<DType::kI16> {};
template <>
struct DTypeOf<int32_t> : DTypeIs<DType::kI32> {};
template <>
struct DTypeOf<int64_t> : DTypeIs<DType::kI64> {};
template <>
struct DTypeOf<uint8_t> : DTypeIs<DType::kU8> {};
template <>
struct DTypeOf<uint16_t> : DTypeIs<DType::kU16> {};
template <>
struct DTypeOf<uint32_t> : DTypeIs<DType::kU32> {};
template <>
struct DTypeOf<uint64_t> : DTypeIs<DType::kU64> {};
template <>
struct DTypeOf<bool> : DTypeIs<DType::kBool> {};
}  // namespace detail

/// The C++ type of every plain dtype.
template <class T>
concept Element = requires {
  detail::DTypeOf<T>::value;
};

template <Element T>
inline constexpr DType dtype_of = detail::DTypeOf<T>::value;

}  // namespace bitnet
