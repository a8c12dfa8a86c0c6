#include "tensor/element.h"

#include "bitnet/core/error.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include <fmt/format.h>

namespace bitnet {
namespace {

template <class T>
T load_as(const std::byte* data, int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void store_as(std::byte* data, int64_t index, T value) {
  std::memcpy(data + index * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

int field(const std::byte* data, int64_t index, int per_byte) {
  const int bits = 8 / per_byte;
  const int byte = std::to_integer<int>(data[index / per_byte]);
  return (byte >> (index % per_byte * bits)) & ((1 << bits) - 1);
}

/// f64 to f32 rounded to odd: a later rounding to a narrower type is then right, as if made at once.
float to_f32_odd(double value) {
  const auto rounded = static_cast<float>(value);
  if (static_cast<double>(rounded) == value || !std::isfinite(rounded)) return rounded;
  uint32_t bits = 0;
  std::memcpy(&bits, &rounded, sizeof bits);
  if ((bits & 1U) != 0) return rounded;
  const bool away = std::abs(static_cast<double>(rounded)) > std::abs(value);
  bits = away ? bits - 1 : bits + 1;
  float odd = 0;
  std::memcpy(&odd, &bits, sizeof odd);
  return odd;
}

template <class T>
T rounded_integer(DType dtype, double value) {
  const double nearest = std::nearbyint(value);
  // 2^63 and 2^64 are doubles, the largest integers below them are not.
  const double limit = std::ldexp(1.0, std::numeric_limits<T>::digits);
  if (!(nearest >= static_cast<double>(std::numeric_limits<T>::lowest())) || nearest >= limit) {
    throw Error(ErrorCode::kOutOfRange, fmt::format("{} is beyond the values of {}", value, to_string(dtype)),
                "choose a wider type");
  }
  return static_cast<T>(nearest);
}

}  // namespace

void throw_not_plain(DType dtype) {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("this needs a plain type (f32 ... bool), found {}", to_string(dtype)),
              "convert it with to_dtype first");
}

double load_element(DType dtype, const std::byte* data, int64_t index) {
  switch (dtype) {
    case DType::kTernary:
      return field(data, index, 4) - 1;
    case DType::kBinary:
      return 2 * field(data, index, 8) - 1;
    case DType::kInt4:
    case DType::kQInt4: {
      const int code = field(data, index, 2);
      return code < 8 ? code : code - 16;
    }
    case DType::kQInt8:
      return load_as<int8_t>(data, index);
    default:
      return with_element_type(dtype, [&]<class T>() { return widen(load_as<T>(data, index)); });
  }
}

void store_element(DType dtype, std::byte* data, int64_t index, double value) {
  with_element_type(dtype, [&]<class T>() {
    if constexpr (std::is_same_v<T, F16>) {
      store_as(data, index, F16{f32_to_f16(to_f32_odd(value))});
    } else if constexpr (std::is_same_v<T, BF16>) {
      store_as(data, index, BF16{f32_to_bf16(to_f32_odd(value))});
    } else if constexpr (std::is_same_v<T, bool>) {
      store_as(data, index, value != 0);
    } else if constexpr (std::is_floating_point_v<T>) {
      store_as(data, index, static_cast<T>(value));
    } else {
      store_as(data, index, rounded_integer<T>(dtype, value));
    }
  });
}

}  // namespace bitnet
