#pragma once

#include <cstdint>

namespace bitnet {

/// IEEE 754 binary16 and bfloat16 to and from binary32. Conversions to the narrow type round to nearest even,
/// keep subnormals, infinities and NaN (quiet).
[[nodiscard]] float f16_to_f32(uint16_t bits);
[[nodiscard]] uint16_t f32_to_f16(float value);
[[nodiscard]] float bf16_to_f32(uint16_t bits);
[[nodiscard]] uint16_t f32_to_bf16(float value);

}  // namespace bitnet
