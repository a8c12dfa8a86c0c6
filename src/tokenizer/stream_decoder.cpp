#include "bitnet/tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

namespace bitnet {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool special)
    : tokenizer_(&tokenizer), special_(special) {
  const TokenizerSpec& spec = tokenizer.spec();
  first_ = spec.model == TokenizerSpec::Model::kSentencePieceBpe && spec.add_space_prefix;
}

std::string StreamDecoder::push(int32_t id) {
  pending_ += tokenizer_->token_bytes(id, special_);
  if (first_ && !pending_.empty()) {
    first_ = false;
    if (pending_.front() == ' ') pending_.erase(0, 1);
  }
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const text::Utf8Char c = text::decode_front(rest);
    if (c.truncated) break;
    c.valid ? out += rest.substr(0, c.length) : out += text::kReplacementUtf8;
    rest.remove_prefix(c.length);
  }
  pending_ = std::string(rest);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out(pending_.empty() ? "" : text::kReplacementUtf8);
  pending_.clear();
  return out;
}

}  // namespace bitnet
