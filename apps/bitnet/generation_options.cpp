#include "generation_options.h"

#include "bitnet/core/error.h"

#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace bitnet::cli {
namespace {

void add_sampler_options(Command command, GenerationOptions& options) {
  SamplerOptions& sampler = options.generate.sampler;
  const auto add = [command](const char* name, auto& value, const char* text) {
    return command.add_option(name, value, text).show_default().group("Sampling");
  };
  const Option greedy =
      command.add_flag("--greedy", options.greedy, "Always the most likely token").group("Sampling");
  add("--temp", sampler.temperature, "Temperature; 0 is greedy").excludes(greedy);
  add("--top-k", sampler.top_k, "Keep the k most likely tokens (0: off)");
  add("--top-p", sampler.top_p, "Keep the most likely tokens of this total probability (1: off)");
  add("--min-p", sampler.min_p, "Drop tokens less likely than this share of the most likely (0: off)");
  add("--typical-p", sampler.typical_p, "Keep locally typical tokens of this total probability (1: off)");
  add("--repeat-penalty", sampler.repetition_penalty, "Divide the logits of tokens seen (1: off)");
  add("--frequency-penalty", sampler.frequency_penalty, "Subtract this for each time a token was seen");
  add("--presence-penalty", sampler.presence_penalty, "Subtract this once from tokens seen");
  add("--penalty-window", sampler.penalty_window, "Last tokens that penalties look at (-1: all)");
  add("--seed", sampler.seed, "Seed of the draws: the same seed gives the same text");
  command
      .add_option("--logit-bias", options.logit_bias,
                  "Add VALUE to a token's logit (-inf forbids it); repeatable")
      .type_name("ID=VALUE")
      .one_at_a_time()
      .group("Sampling");
}

std::pair<int32_t, float> parse_logit_bias(std::string_view text) {
  const size_t equals = text.find('=');
  int32_t id = -1;
  float value = 0;
  const auto parses = [](std::string_view part, auto& number) {
    const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), number);
    return failure == std::errc{} && end == part.data() + part.size();
  };
  if (equals == std::string_view::npos || !parses(text.substr(0, equals), id) || id < 0 ||
      !parses(text.substr(equals + 1), value) || std::isnan(value)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--logit-bias '{}' is not ID=VALUE", text),
                "for example --logit-bias 5=-inf");
  }
  return {id, value};
}

double finite_or_zero(double value) {
  return std::isfinite(value) ? value : 0.0;
}

}  // namespace

void add_generation_options(Command command, GenerationOptions& options) {
  GenerateOptions& generate = options.generate;
  command
      .add_option("-n,--tokens", generate.max_tokens, "Tokens to generate (-1: until something else stops)")
      .between(-1, int64_t{1} << 40)
      .type_name("N")
      .show_default();
  command.add_option("--stop", generate.stop_strings, "Stop at this text, which is not printed; repeatable")
      .type_name("TEXT")
      .one_at_a_time();
  command.add_flag("--ignore-eos", generate.ignore_stop_tokens, "Go on past the model's stop tokens");
  command.add_flag("--context-shift", generate.context_shift,
                   "When the context is full, forget the older half and go on");
  command.add_flag("--exact-head", options.cache.exact_head,
                   "Compute every logit, also those that cannot matter; the text stays the same");
  add_cache_options(command, options.cache);
  add_sampler_options(command, options);
}

void add_speculation_option(Command command, GenerationOptions& options) {
  command
      .add_option(
          "--speculate", options.generate.draft_tokens,
          "Guess up to N tokens from earlier text and check them at once (0: off); the text stays the "
          "same")
      .between(0, 64)
      .type_name("N")
      .show_default();
}

GenerateOptions resolve(const GenerationOptions& options) {
  GenerateOptions resolved = options.generate;
  if (options.greedy) resolved.sampler.temperature = 0.0f;
  for (const std::string& bias : options.logit_bias) {
    resolved.sampler.logit_bias.push_back(parse_logit_bias(bias));
  }
  for (const std::string& stop : resolved.stop_strings) {
    if (stop.empty()) throw Error(ErrorCode::kInvalidArgument, "--stop needs a text that is not empty");
  }
  resolved.sampler.validate();
  return resolved;
}

void add_template_options(Command command, TemplateOptions& options) {
  command
      .add_option(
          "--template", options.name,
          "Chat template: bitnet, llama3, falcon3, falcon-e, chatml, llama2 or none (default: the model's)")
      .type_name("NAME");
  command.add_option("--system", options.system, "System prompt").type_name("TEXT");
}

ChatTemplate choose_template(const TemplateOptions& options, const Model& model) {
  return options.name.empty() ? model.chat_template() : chat_template_from_name(options.name);
}

std::string describe_speed(const GenerateResult& result) {
  const std::string guesses =
      result.drafted_tokens == 0
          ? std::string()
          : fmt::format(", {} of {} guesses accepted", result.accepted_tokens, result.drafted_tokens);
  return fmt::format("prefill {:.1f} tokens/s ({} tokens), decode {:.1f} tokens/s ({} tokens){}",
                     finite_or_zero(result.prefill_tokens_per_second()), result.prompt_tokens,
                     finite_or_zero(result.decode_tokens_per_second()), result.ids.size(), guesses);
}

void add_speed(Json& json, const GenerateResult& result) {
  json["stop_reason"] = to_string(result.stop_reason);
  json["prefill_tokens_per_second"] = finite_or_zero(result.prefill_tokens_per_second());
  json["decode_tokens_per_second"] = finite_or_zero(result.decode_tokens_per_second());
  if (result.drafted_tokens == 0) return;
  json["drafted_tokens"] = result.drafted_tokens;
  json["accepted_tokens"] = result.accepted_tokens;
}

}  // namespace bitnet::cli
