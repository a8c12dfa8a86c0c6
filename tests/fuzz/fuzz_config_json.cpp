#include "bitnet/core/error.h"
#include "bitnet/model/config.h"

#include <cstdint>
#include <string_view>

// Parses the input as a Hugging Face config.json. bitnet::Error is the only way out, and what is taken must
// come back from its own text unchanged.

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const bitnet::HfConfig config = bitnet::hf_config_from_json(text);
    const std::string written = bitnet::hf_config_to_json(config);
    if (bitnet::hf_config_to_json(bitnet::hf_config_from_json(written)) != written) __builtin_trap();
  } catch (const bitnet::Error&) {
  }
  return 0;
}
