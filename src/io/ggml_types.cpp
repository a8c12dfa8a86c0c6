#include "io/ggml_types.h"

#include "bitnet/core/error.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

namespace bitnet {
namespace {

struct Handled {
  uint32_t type;
  DType dtype;
};

// Numbers below 100 are ggml's (ggml.h, enum ggml_type), but 36 is microsoft/BitNet's; 135 is ik_llama.cpp's.
constexpr std::array<Handled, 15> kHandled = {{
    {0, DType::kF32},
    {1, DType::kF16},
    {2, DType::kQ4_0},
    {8, DType::kQ8_0},
    {14, DType::kQ6_K},
    {24, DType::kI8},
    {25, DType::kI16},
    {26, DType::kI32},
    {27, DType::kI64},
    {28, DType::kF64},
    {30, DType::kBF16},
    {34, DType::kTQ1_0},
    {35, DType::kTQ2_0},
    {36, DType::kI2_S},
    {135, DType::kIQ2_BN},
}};

struct Known {
  uint32_t type;
  std::string_view name;
};

constexpr std::array<Known, 30> kKnown = {{
    {3, "Q4_1"},      {6, "Q5_0"},        {7, "Q5_1"},      {9, "Q8_1"},
    {10, "Q2_K"},     {11, "Q3_K"},       {12, "Q4_K"},     {13, "Q5_K"},
    {15, "Q8_K"},     {16, "IQ2_XXS"},    {17, "IQ2_XS"},   {18, "IQ3_XXS"},
    {19, "IQ1_S"},    {20, "IQ4_NL"},     {21, "IQ3_S"},    {22, "IQ2_S"},
    {23, "IQ4_XS"},   {29, "IQ1_M"},      {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"},
    {33, "Q4_0_8_8"}, {37, "I8_S"},       {38, "TL1"},      {39, "TL2 (microsoft) or MXFP4 (ggml)"},
    {40, "NVFP4"},    {41, "Q1_0"},       {42, "Q2_0"},     {134, "IQ1_BN"},
    {137, "IQ2_K"},   {335, "IQ2_BN_R4"},
}};

std::string_view known_name(uint32_t type) {
  for (const Known& known : kKnown) {
    if (known.type == type) return known.name;
  }
  return "unknown";
}

std::string_view hint_for(uint32_t type) {
  switch (type) {
    case 38:
    case 39:
      return "TL1 and TL2 depend on the machine that made them; convert the Hugging Face folder or an I2_S "
             "file instead";
    case 42:
      return "two layouts of Q2_0 exist under this number; convert the Hugging Face folder, or use a TQ2_0 "
             "or I2_S file";
    case 335:
      return "use a file of type iq2_bn (not interleaved), i2_s, tq1_0 or tq2_0";
    default:
      return "use a file with i2_s, tq1_0, tq2_0 or iq2_bn linears, or convert the Hugging Face folder";
  }
}

}  // namespace

std::optional<DType> dtype_from_ggml(uint32_t type) {
  for (const Handled& handled : kHandled) {
    if (handled.type == type) return handled.dtype;
  }
  return std::nullopt;
}

std::optional<uint32_t> ggml_from_dtype(DType dtype) {
  for (const Handled& handled : kHandled) {
    if (handled.dtype == dtype) return handled.type;
  }
  return std::nullopt;
}

void throw_unsupported_ggml_type(uint32_t type) {
  std::string supported;
  for (const Handled& handled : kHandled) {
    fmt::format_to(std::back_inserter(supported), "{}{} ({})", supported.empty() ? "" : ", ",
                   to_string(handled.dtype), handled.type);
  }
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("ggml type {} ({}) is not supported; supported are {}", type, known_name(type), supported),
      std::string(hint_for(type)));
}

int64_t gguf_value_bytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
    case GgufType::kString:
      return 8;
    default:
      return 0;
  }
}

}  // namespace bitnet
