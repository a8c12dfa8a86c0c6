#include "io/safetensors_types.h"

#include <array>

namespace bitnet {
namespace {

struct Named {
  std::string_view name;
  DType dtype;
};

constexpr std::array<Named, 13> kNamed = {{
    {"F64", DType::kF64},
    {"F32", DType::kF32},
    {"F16", DType::kF16},
    {"BF16", DType::kBF16},
    {"I8", DType::kI8},
    {"I16", DType::kI16},
    {"I32", DType::kI32},
    {"I64", DType::kI64},
    {"U8", DType::kU8},
    {"U16", DType::kU16},
    {"U32", DType::kU32},
    {"U64", DType::kU64},
    {"BOOL", DType::kBool},
}};

}  // namespace

std::optional<DType> dtype_from_safetensors(std::string_view name) {
  for (const Named& named : kNamed) {
    if (named.name == name) return named.dtype;
  }
  return std::nullopt;
}

std::optional<std::string_view> safetensors_from_dtype(DType dtype) {
  for (const Named& named : kNamed) {
    if (named.dtype == dtype) return named.name;
  }
  return std::nullopt;
}

std::string_view safetensors_dtype_list() {
  return "F64, F32, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64 and BOOL";
}

}  // namespace bitnet
