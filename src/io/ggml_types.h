#pragma once

#include "bitnet/io/gguf.h"

#include <cstdint>
#include <string>

namespace bitnet {

/// Throws kUnsupported: names the ggml type by number and, where known, by name, and says what to do.
[[noreturn]] void throw_unsupported_ggml_type(uint32_t type);

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF" read as little endian
inline constexpr int64_t kGgufDefaultAlignment = 32;
inline constexpr size_t kGgufMaxDims = 4;

/// Bytes of one value of a scalar type; for a string its least, the length field. 0 for kArray and unknown
/// types.
[[nodiscard]] int64_t gguf_value_bytes(GgufType type);

}  // namespace bitnet
