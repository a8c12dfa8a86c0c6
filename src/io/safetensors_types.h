#pragma once

#include "bitnet/core/dtype.h"

#include <cstddef>
#include <optional>
#include <string_view>

namespace bitnet {

/// The names of the safetensors format ("F32", "U8", ...) and the types; nothing if there is no counterpart.
[[nodiscard]] std::optional<DType> dtype_from_safetensors(std::string_view name);
[[nodiscard]] std::optional<std::string_view> safetensors_from_dtype(DType dtype);
/// "F64, F32, ...", for messages.
[[nodiscard]] std::string_view safetensors_dtype_list();

/// The limit of the reference implementation; what is longer is hostile.
inline constexpr size_t kSafetensorsMaxHeaderBytes = 100'000'000;
inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

}  // namespace bitnet
