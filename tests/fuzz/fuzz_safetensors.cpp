#include "bitnet/core/error.h"
#include "bitnet/io/safetensors.h"

#include <cstdint>

// Parses the input as a safetensors file and touches every byte of every tensor. bitnet::Error is the only
// way out.

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const bitnet::SafetensorsFile file = bitnet::SafetensorsFile::parse(std::as_bytes(std::span(data, size)));
    size_t total = 0;
    for (const bitnet::SafetensorsEntry& entry : file.tensors()) {
      if (file.find(entry.name) != &entry) __builtin_trap();
      [[maybe_unused]] volatile std::byte sink{};
      for (const std::byte byte : entry.bytes) sink = byte;
      total += entry.bytes.size();
    }
    // Tensors neither overlap nor leave the file.
    if (total > size) __builtin_trap();
  } catch (const bitnet::Error&) {
  }
  return 0;
}
