#include "ops/convert_codec.h"

#include "bitnet/core/error.h"
#include "bitnet/tensor/create.h"
#include "tensor/element.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace bitnet::ops {
namespace {

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, F16> || std::is_same_v<T, BF16>;

template <class T>
void load_plain(const std::byte* from, int64_t stride, int64_t n, WideBlock& block) {
  const auto* x = reinterpret_cast<const T*>(from);
  for (int64_t i = 0; i < n; ++i) {
    const T value = x[i * stride];
    if constexpr (kIsHalf<T> || std::is_floating_point_v<T>)
      block.f64[i] = widen(value);
    else if constexpr (std::is_same_v<T, uint64_t>)
      block.u64[i] = value;
    else
      block.i64[i] = static_cast<int64_t>(value);  // NOLINT(bugprone-signed-char-misuse): the sign is meant
  }
  block.type = std::is_same_v<T, uint64_t>                 ? WideType::kU64
               : kIsHalf<T> || std::is_floating_point_v<T> ? WideType::kF64
                                                           : WideType::kI64;
}

/// Scale and zero point of each element of a quantized tensor.
class Scales {
 public:
  explicit Scales(const Tensor& tensor) : quantization_(tensor.quantization().get()) {}
  [[nodiscard]] double scale(int64_t index) const {
    return quantization_ == nullptr ? 1.0 : static_cast<double>(quantization_->scale[group(index)]);
  }
  [[nodiscard]] double zero_point(int64_t index) const {
    if (quantization_ == nullptr || quantization_->zero_point.empty()) return 0;
    return quantization_->zero_point[group(index)];
  }

 private:
  [[nodiscard]] size_t group(int64_t index) const {
    return quantization_->group_size == 0 ? 0 : static_cast<size_t>(index / quantization_->group_size);
  }
  const Quantization* quantization_;
};

/// An integer as a double, the last of 53 bits odd where bits were lost: a later rounding to fewer bits is
/// then right, as if made at once.
double odd_double(uint64_t magnitude) {
  if (magnitude < (1ULL << 53)) return static_cast<double>(magnitude);
  const uint64_t sticky = (magnitude & 0xfffU) != 0 ? 1 : 0;
  return std::ldexp(static_cast<double>((magnitude >> 12) | sticky), 12);
}

double wide_value(const WideBlock& block, int64_t i) {
  switch (block.type) {
    case WideType::kF64:
      return block.f64[i];
    case WideType::kI64: {
      const int64_t value = block.i64[i];
      return value < 0 ? -odd_double(0 - static_cast<uint64_t>(value))
                       : odd_double(static_cast<uint64_t>(value));
    }
    case WideType::kU64:
      break;
  }
  return odd_double(block.u64[i]);
}

/// Uniform in [0, 1), of the element's index alone.
double draw(uint64_t seed, int64_t index) {
  const auto words = philox({seed, 0}, static_cast<uint64_t>(index / 4));
  return words[static_cast<size_t>(index % 4)] * 0x1p-32;
}

double round_integer(double value, const StoreOptions& options, int64_t index) {
  if (options.rounding == Rounding::kNearestEven || !std::isfinite(value)) return std::nearbyint(value);
  const double below = std::floor(value);
  return draw(options.seed, index) < value - below ? below + 1 : below;
}

template <class T>
T narrowed(double value) {
  T result;
  store_element(dtype_of<T>, reinterpret_cast<std::byte*>(&result), 0, value);
  return result;
}

/// The neighbour of `nearest` on the side of `value`.
template <class T>
T neighbour(T nearest, double value) {
  if constexpr (kIsHalf<T>) {
    if ((nearest.bits & 0x7fffU) == 0) return {static_cast<uint16_t>(value < 0 ? 0x8001U : 1U)};
    const bool grows = std::abs(value) > std::abs(widen(nearest));
    return {static_cast<uint16_t>(grows ? nearest.bits + 1 : nearest.bits - 1)};
  } else {
    return std::nextafter(
        nearest, value > nearest ? std::numeric_limits<T>::infinity() : -std::numeric_limits<T>::infinity());
  }
}

template <class T>
T round_float(double value, const StoreOptions& options, int64_t index) {
  const T nearest = narrowed<T>(value);
  if (options.rounding == Rounding::kNearestEven || !std::isfinite(widen(nearest))) return nearest;
  const double distance = std::abs(value - widen(nearest));
  if (distance == 0) return nearest;
  const T other = neighbour(nearest, value);
  return draw(options.seed, index) < distance / std::abs(widen(other) - widen(nearest)) ? other : nearest;
}

[[noreturn]] void throw_beyond(double value, DType dtype) {
  throw Error(ErrorCode::kOutOfRange,
              fmt::format("to_dtype: {} is beyond the values of {}", value, to_string(dtype)),
              "choose a wider type, or Overflow::kSaturate");
}

template <class T>
T round_to_integer(double value, const StoreOptions& options, int64_t index) {
  const double rounded = round_integer(value, options, index);
  // 2^63 and 2^64 are doubles, the largest integers below them are not.
  const double limit = std::ldexp(1.0, std::numeric_limits<T>::digits);
  const auto lowest = static_cast<double>(std::numeric_limits<T>::lowest());
  if (rounded >= lowest && rounded < limit) return static_cast<T>(rounded);
  if (options.overflow == Overflow::kThrow) throw_beyond(value, dtype_of<T>);
  if (std::isnan(value)) return 0;
  return value < 0 ? std::numeric_limits<T>::lowest() : std::numeric_limits<T>::max();
}

template <class T, class From>
T integer_to_integer(From value, const StoreOptions& options) {
  if (std::in_range<T>(value)) return static_cast<T>(value);
  if (options.overflow == Overflow::kThrow) throw_beyond(static_cast<double>(value), dtype_of<T>);
  return value < 0 ? std::numeric_limits<T>::lowest() : std::numeric_limits<T>::max();
}

template <class T>
T converted(const WideBlock& block, int64_t i, int64_t index, const StoreOptions& options) {
  if constexpr (std::is_same_v<T, bool>) {
    return block.type == WideType::kF64 ? block.f64[i] != 0 : block.u64[i] != 0;
  } else if constexpr (kIsHalf<T>) {
    return round_float<T>(wide_value(block, i), options, index);
  } else if constexpr (std::is_floating_point_v<T>) {
    if (block.type == WideType::kI64) return static_cast<T>(block.i64[i]);
    if (block.type == WideType::kU64) return static_cast<T>(block.u64[i]);
    return round_float<T>(block.f64[i], options, index);
  } else {
    if (block.type == WideType::kI64) return integer_to_integer<T>(block.i64[i], options);
    if (block.type == WideType::kU64) return integer_to_integer<T>(block.u64[i], options);
    return round_to_integer<T>(block.f64[i], options, index);
  }
}

int bits_of(DType dtype) {
  return dtype == DType::kTernary ? 2 : dtype == DType::kBinary ? 1 : 4;
}

/// The code as the type's bits hold it.
unsigned field(DType dtype, int64_t code) {
  if (dtype == DType::kTernary) return static_cast<unsigned>(code + 1);
  if (dtype == DType::kBinary) return code < 0 ? 0U : 1U;
  return static_cast<unsigned>(code) & 0xfU;
}

int64_t quantized_code(const WideBlock& block, int64_t i, int64_t index, const StoreOptions& options,
                       DType dtype, const Scales& scales) {
  const auto [lowest, highest] = value_range(dtype);
  if (!options.scaled) {
    const int64_t code = block.i64[i];
    const auto value = static_cast<double>(code);
    if (value >= lowest && value <= highest && !(dtype == DType::kBinary && code == 0)) return code;
    if (options.overflow == Overflow::kThrow) throw_beyond(value, dtype);
    return static_cast<int64_t>(value < lowest ? lowest : highest);
  }
  const double value = wide_value(block, i);
  if (std::isnan(value) && options.overflow == Overflow::kThrow) throw_beyond(value, dtype);
  if (std::isnan(value)) return static_cast<int64_t>(scales.zero_point(index));
  if (dtype == DType::kBinary) return value < 0 ? -1 : 1;
  // A scale of 0 makes NaN of 0: such a group is all zero point.
  const double quotient = scales.scale(index) == 0 ? 0 : value / scales.scale(index);
  const double code = round_integer(quotient, options, index) + scales.zero_point(index);
  return static_cast<int64_t>(std::clamp(code, lowest, highest));
}

void store_quantized(const WideBlock& block, int64_t index, int64_t n, const StoreOptions& options,
                     const Tensor& y, std::byte* data) {
  const DType dtype = y.dtype();
  const Scales scales(y);
  if (dtype == DType::kQInt8) {
    for (int64_t i = 0; i < n; ++i) {
      data[index + i] = static_cast<std::byte>(quantized_code(block, i, index + i, options, dtype, scales));
    }
    return;
  }
  const int bits = bits_of(dtype), per_byte = 8 / bits;
  for (int64_t i = 0; i < n; i += per_byte) {
    unsigned byte = 0;
    for (int64_t j = i; j < std::min(n, i + per_byte); ++j) {
      byte |= field(dtype, quantized_code(block, j, index + j, options, dtype, scales)) << ((j - i) * bits);
    }
    data[(index + i) / per_byte] = static_cast<std::byte>(byte);
  }
}

}  // namespace

void load_wide(const Tensor& x, const std::byte* from, int64_t stride, int64_t index, int64_t n, bool scaled,
               WideBlock& block) {
  if (is_plain(x.dtype())) {
    return with_element_type(x.dtype(), [&]<class T>() { load_plain<T>(from, stride, n, block); });
  }
  block.type = scaled ? WideType::kF64 : WideType::kI64;
  const Scales scales(x);
  for (int64_t i = 0; i < n; ++i) {
    const double code = is_packed(x.dtype()) ? load_element(x.dtype(), x.bytes(), index + i)
                                             : load_element(x.dtype(), from, i * stride);
    if (scaled)
      block.f64[i] = (code - scales.zero_point(index + i)) * scales.scale(index + i);
    else
      block.i64[i] = static_cast<int64_t>(code);
  }
}

void store_wide(const WideBlock& block, int64_t index, int64_t n, const StoreOptions& options,
                const Tensor& y, std::byte* data) {
  if (!is_plain(y.dtype())) return store_quantized(block, index, n, options, y, data);
  with_element_type(y.dtype(), [&]<class T>() {
    auto* to = reinterpret_cast<T*>(data) + index;
    for (int64_t i = 0; i < n; ++i) to[i] = converted<T>(block, i, index + i, options);
  });
}

}  // namespace bitnet::ops
