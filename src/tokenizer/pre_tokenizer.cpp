#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/pre_tokenizer.h"

#include "bitnet/core/error.h"
#include "bitnet/core/log.h"
#include "tokenizer/unicode.h"

#include <algorithm>

#include <fmt/format.h>
#include <pcre2.h>

namespace bitnet::text {

namespace {

// Patterns of real tokenizers are below 1 kB; what is longer is an attack on the compiler.
constexpr size_t kMaxPatternBytes = 1 << 16;

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};
using Code = std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;

std::string pcre_message(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

class Regex {
 public:
  explicit Regex(const std::string& pattern);
  /// Appends the matches and the gaps between them, in order.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  [[nodiscard]] int match(std::string_view text, size_t start, pcre2_match_data* data,
                          pcre2_match_context* context) const;

  std::string pattern_;
  Code code_;
};

Regex::Regex(const std::string& pattern) : pattern_(pattern) {
  const CompileContext context(pcre2_compile_context_create(nullptr));
  if (context == nullptr)
    throw Error(ErrorCode::kOutOfMemory, "tokenizer: no memory for a pattern's context");
  pcre2_set_max_pattern_length(context.get(), kMaxPatternBytes);
  // Oniguruma, for which these patterns are written, has multi-line anchors. \C would split characters.
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), kOptions, &error,
                            &offset, context.get()));
  if (code_ == nullptr) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("tokenizer: the split pattern must be one that PCRE2 takes, but at byte {} of \"{}\": {}",
                    offset, pattern.substr(0, 200), pcre_message(error)),
        "rewrite the pre_tokenizer's pattern in tokenizer.json");
  }
  // Without a JIT for this processor the interpreter runs: the same matches, only slower.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

int Regex::match(std::string_view text, size_t start, pcre2_match_data* data,
                 pcre2_match_context* context) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int result = pcre2_match(code_.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK, data, context);
  if (result != PCRE2_ERROR_JIT_STACKLIMIT) return result;
  return pcre2_match(code_.get(), subject, text.size(), start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                     context);
}

void Regex::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  const MatchData data(pcre2_match_data_create(1, nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  if (data == nullptr || context == nullptr)
    throw Error(ErrorCode::kOutOfMemory, "tokenizer: no memory to match");
  // \s*[\r\n]+ gives back a run of spaces one by one: a legitimate match takes a few steps per byte.
  pcre2_set_match_limit(context.get(),
                        static_cast<uint32_t>(std::min<size_t>(1'000'000 + 16 * text.size(), 1U << 31)));
  size_t at = 0, gap = 0;
  while (at < text.size()) {
    const int result = match(text, at, data.get(), context.get());
    if (result < 0) {
      if (result != PCRE2_ERROR_NOMATCH && log_enabled(LogLevel::kWarning)) {
        log_message(
            LogLevel::kWarning,
            fmt::format("tokenizer: the split pattern \"{}\" gave up on a text of {} bytes at byte {} ({}); "
                        "the rest is taken as one piece",
                        pattern_.substr(0, 200), text.size(), at, pcre_message(result)));
      }
      break;
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    const size_t begin = ends[0], end = ends[1];
    if (begin >= end || begin < at) {  // empty, or moved about by \K: no piece
      at += decode_front(text.substr(at)).length;
      continue;
    }
    if (begin > gap) pieces.push_back(text.substr(gap, begin - gap));
    pieces.push_back(text.substr(begin, end - begin));
    at = gap = end;
  }
  if (gap < text.size()) pieces.push_back(text.substr(gap));
}

PreTokenizer::PreTokenizer(const TokenizerSpec& spec) {
  if (spec.split_digits) text_stages_.emplace_back(std::string(kDigitClass));
  for (const auto& pattern : spec.patterns) text_stages_.emplace_back(pattern);
  if (spec.byte_level_regex) text_stages_.emplace_back(std::string(kGpt2Pattern));
  for (const auto& pattern : spec.byte_patterns) byte_stages_.emplace_back(pattern);
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

std::vector<std::string_view> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces, parts;
  if (!text.empty()) pieces.push_back(text);
  for (const auto& stage : text_stages_) {
    parts.clear();
    for (const auto piece : pieces) stage.split(piece, parts);
    std::swap(pieces, parts);
  }
  if (byte_stages_.empty()) return pieces;

  std::vector<std::string_view> result, mapped_pieces;
  std::string mapped;
  for (std::string_view piece : pieces) {
    mapped.clear();
    append_alphabet(mapped, piece);
    mapped_pieces.assign(1, mapped);
    for (const auto& stage : byte_stages_) {
      parts.clear();
      for (const auto part : mapped_pieces) stage.split(part, parts);
      std::swap(mapped_pieces, parts);
    }
    for (const auto part : mapped_pieces) {  // one character of the alphabet is one byte of the text
      size_t bytes = 0;
      for (const char c : part) bytes += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
      result.push_back(piece.substr(0, bytes));
      piece.remove_prefix(bytes);
    }
  }
  return result;
}

}  // namespace bitnet::text
