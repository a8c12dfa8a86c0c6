#include "bitnet/core/mapped_file.h"
#include "tokenizer/spec_parts.h"

#include <filesystem>

namespace bitnet {

namespace text {

namespace {

std::string read_text(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string read_text_if_present(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? read_text(path) : std::string();
}

// Ids beyond the vocabulary are refused: the files would belong to different models.
void read_ids(const std::filesystem::path& path, TokenizerSpec& spec) {
  const std::string json = read_text_if_present(path);
  if (json.empty()) return;
  try {
    const Json config = parse_object(json, path.filename().string());
    const auto bos = token_ids(config, "bos_token_id", spec.tokens.size());
    const auto eos = token_ids(config, "eos_token_id", spec.tokens.size());
    const auto pad = token_ids(config, "pad_token_id", spec.tokens.size());
    if (!spec.bos && !bos.empty()) spec.bos = bos.front();
    if (!spec.eos && !eos.empty()) spec.eos = eos.front();
    if (!spec.pad && !pad.empty()) spec.pad = pad.front();
    spec.stop_tokens.insert(spec.stop_tokens.end(), eos.begin(), eos.end());
  } catch (Error& error) {
    error.with_context(path.string());
    throw;
  }
}

}  // namespace

}  // namespace text

TokenizerSpec tokenizer_spec_from_folder(const std::filesystem::path& folder) {
  TokenizerSpec spec;
  try {
    const std::string config = text::read_text_if_present(folder / "tokenizer_config.json");
    spec = tokenizer_spec_from_json(text::read_text(folder / "tokenizer.json"), config);
  } catch (Error& error) {
    error.with_context(folder.string());
    throw;
  }
  text::read_ids(folder / "generation_config.json", spec);
  text::read_ids(folder / "config.json", spec);
  const std::string chat_template = text::read_text_if_present(folder / "chat_template.jinja");
  if (!chat_template.empty()) spec.chat_template = chat_template;
  text::derive_stop_tokens(spec);
  return spec;
}

}  // namespace bitnet
