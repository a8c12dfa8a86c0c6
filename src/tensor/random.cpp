#include "bitnet/core/error.h"
#include "bitnet/tensor/create.h"
#include "tensor/element.h"

#include <cmath>
#include <numbers>

#include <fmt/format.h>

namespace bitnet {
namespace {

void require(bool holds, std::string_view function, DType dtype, std::string_view wanted) {
  if (holds) return;
  throw Error(ErrorCode::kDTypeMismatch,
              fmt::format("{}: needs {}, found {}", function, wanted, to_string(dtype)));
}

uint64_t high_and_low(uint32_t a, uint32_t b) {
  return static_cast<uint64_t>(a) * b;
}

/// `per_element` words for each element, in order: value(word...) stored as dtype.
template <int per_element, class Value>
Tensor draw(std::span<const int64_t> shape, RandomKey key, DType dtype, Value&& value) {
  Tensor tensor = empty(shape, dtype);
  constexpr int kPerBlock = 4 / per_element;
  for (int64_t i = 0; i < tensor.numel(); i += kPerBlock) {
    const auto words = philox(key, static_cast<uint64_t>(i / kPerBlock));
    for (int64_t j = 0; j < kPerBlock && i + j < tensor.numel(); ++j) {
      store_element(dtype, tensor.bytes(), i + j, value(&words[static_cast<size_t>(j * per_element)]));
    }
  }
  return tensor;
}

}  // namespace

std::array<uint32_t, 4> philox(RandomKey key, uint64_t block) {
  std::array<uint32_t, 4> x = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                               static_cast<uint32_t>(key.stream), static_cast<uint32_t>(key.stream >> 32)};
  auto k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = high_and_low(0xD2511F53U, x[0]), b = high_and_low(0xCD9E8D57U, x[2]);
    x = {static_cast<uint32_t>(b >> 32) ^ x[1] ^ k0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ x[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9U;  // the golden ratio
    k1 += 0xBB67AE85U;  // sqrt(3) - 1
  }
  return x;
}

Tensor rand(std::span<const int64_t> shape, RandomKey key, DType dtype) {
  require(is_floating(dtype), "rand", dtype, "a floating type");
  return draw<1>(shape, key, dtype,
                 [](const uint32_t* word) { return static_cast<double>(*word >> 8) * 0x1p-24; });
}

Tensor randn(std::span<const int64_t> shape, RandomKey key, DType dtype) {
  require(is_floating(dtype), "randn", dtype, "a floating type");
  return draw<2>(shape, key, dtype, [](const uint32_t* words) {
    const double radius =
        std::sqrt(-2 * std::log((static_cast<double>(words[0]) + 1) * 0x1p-32));  // of (0, 1]
    return radius * std::cos(2 * std::numbers::pi * 0x1p-32 * static_cast<double>(words[1]));
  });
}

Tensor randint(std::span<const int64_t> shape, int64_t low, int64_t high, RandomKey key, DType dtype) {
  require(is_integer(dtype), "randint", dtype, "an integer type");
  const uint64_t width = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  constexpr int64_t kExact = int64_t{1} << 53;  // results pass through f64
  if (low >= high || width > (1ULL << 32) || low < -kExact || high > kExact) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("randint: needs low < high, at most 2^32 values, and both within +-2^53; found {} and {}",
                    low, high));
  }
  // The product's high word: unbiased to 2^-32 times the width.
  return draw<2>(shape, key, dtype, [&](const uint32_t* words) {
    const uint64_t random = (static_cast<uint64_t>(words[0]) << 32) | words[1];
    __extension__ using Wide = unsigned __int128;
    return static_cast<double>(low) +
           static_cast<double>(static_cast<uint64_t>((Wide{random} * width) >> 64));
  });
}

}  // namespace bitnet
