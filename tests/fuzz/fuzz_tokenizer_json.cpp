// tokenizer.json from hostile hands: the reader must refuse it with bitnet::Error or give a tokenizer that
// encodes and decodes anything. Behind a NUL byte the input may carry a tokenizer_config.json.

#include "bitnet/core/error.h"
#include "bitnet/tokenizer/chat_template.h"
#include "bitnet/tokenizer/tokenizer.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t border = input.find('\0');
  const std::string_view json = input.substr(0, border);
  const std::string_view config = border == std::string_view::npos ? "" : input.substr(border + 1);
  try {
    const bitnet::Tokenizer tokenizer(bitnet::tokenizer_spec_from_json(json, config));
    const std::string_view text = input.substr(size / 2, 200);
    for (const bool parse_special : {false, true}) {
      const auto ids = tokenizer.encode(text, {.parse_special = parse_special});
      (void)tokenizer.decode(ids, parse_special);
      bitnet::StreamDecoder decoder(tokenizer);
      for (const int32_t id : ids) (void)decoder.push(id);
      (void)decoder.finish();
    }
    (void)bitnet::detect_chat_template("llama", tokenizer.spec());
  } catch (const bitnet::Error& error) {
    if (error.code() == bitnet::ErrorCode::kInternal) __builtin_trap();
  }
  return 0;
}
