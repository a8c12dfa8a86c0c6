#include "bitnet/core/dtype.h"

#include "bitnet/core/error.h"

#include <array>
#include <cctype>

#include <fmt/format.h>

namespace bitnet {
namespace {

constexpr int kDTypeCount = static_cast<int>(DType::kIQ2_BN) + 1;

constexpr std::array<DTypeInfo, kDTypeCount> kInfo = {{
    {"f32", 1, 4},      {"f16", 1, 2},      {"bf16", 1, 2},     {"f64", 1, 8},        {"i8", 1, 1},
    {"i16", 1, 2},      {"i32", 1, 4},      {"i64", 1, 8},      {"u8", 1, 1},         {"u16", 1, 2},
    {"u32", 1, 4},      {"u64", 1, 8},      {"bool", 1, 1},     {"ternary", 4, 1},    {"binary", 8, 1},
    {"int4", 2, 1},     {"qint8", 1, 1},    {"qint4", 2, 1},    {"hf_ternary", 4, 1}, {"q4_0", 32, 18},
    {"q8_0", 32, 34},   {"q6_k", 256, 210}, {"tq1_0", 256, 54}, {"tq2_0", 256, 66},   {"i2_s", 128, 32},
    {"iq2_bn", 64, 16},
}};

int64_t checked_multiply(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    throw Error(ErrorCode::kCorruptData, "the size of the tensor overflows 64 bits",
                "the file is corrupt or hostile");
  }
  return product;
}

[[noreturn]] void throw_row_length(DType dtype, std::string_view what, int64_t found, int64_t multiple) {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{} holds {} in blocks of {}, but the {} is {}", to_string(dtype), what, multiple,
                          what, found),
              "choose a type whose block divides it, e.g. i2_s, f16 or bf16");
}

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  if (index >= kInfo.size()) {
    throw Error(ErrorCode::kInternal, fmt::format("no dtype with the number {}", index));
  }
  return kInfo[index];
}

std::string_view to_string(DType dtype) {
  return dtype_info(dtype).name;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  const auto equal = [](std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i) {
      if (std::tolower(static_cast<unsigned char>(a[i])) != b[i]) return false;
    }
    return true;
  };
  for (int i = 0; i < kDTypeCount; ++i) {
    if (equal(name, kInfo[static_cast<size_t>(i)].name)) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool is_ternary(DType dtype) {
  switch (dtype) {
    case DType::kTernary:
    case DType::kHfTernary:
    case DType::kTQ1_0:
    case DType::kTQ2_0:
    case DType::kI2_S:
    case DType::kIQ2_BN:
      return true;
    default:
      return false;
  }
}

int64_t element_count(std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) {
    if (dim < 0) {
      throw Error(ErrorCode::kCorruptData,
                  fmt::format("negative dimension {} in shape {}", dim, to_string(shape)));
    }
    count = checked_multiply(count, dim);
  }
  return count;
}

std::string to_string(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

int64_t storage_bytes(DType dtype, std::span<const int64_t> shape) {
  const DTypeInfo& info = dtype_info(dtype);
  const int64_t count = element_count(shape);
  const int64_t row = shape.empty() ? 1 : shape.back();
  const int64_t rows = row == 0 ? 0 : count / row;
  switch (dtype) {
    case DType::kI2_S:  // flat over the whole tensor, then 32 bytes that begin with the scale
      if (count % info.block_elements != 0)
        throw_row_length(dtype, "element count", count, info.block_elements);
      return count / 4 + 32;
    case DType::kIQ2_BN: {  // an f32 scale before every row
      if (row % info.block_elements != 0) throw_row_length(dtype, "row length", row, info.block_elements);
      return checked_multiply(rows, row / info.block_elements * info.block_bytes + 4);
    }
    case DType::kHfTernary:
      if (rows % 4 != 0) throw_row_length(dtype, "row count", rows, 4);
      return count / 4;
    default:
      if (row % info.block_elements != 0) throw_row_length(dtype, "row length", row, info.block_elements);
      return checked_multiply(count / info.block_elements, info.block_bytes);
  }
}

}  // namespace bitnet
