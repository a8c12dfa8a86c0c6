// Loads a model, tokenizes a text, generates with a callback and a cancel, and looks at the logits.
//   example_generate models/storyteller.gguf "Once upon a time there was"
#include "bitnet/bitnet.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <string>

namespace {
std::atomic<bool> cancel{false};  // looked at before each token; any thread may set it
}

int main(int argc, char** argv) try {
  const std::string path = argc > 1 ? argv[1] : "models/storyteller.gguf";
  const std::string text = argc > 2 ? argv[2] : "Once upon a time there was";
  std::signal(SIGINT, [](int) { cancel = true; });

  // A model is immutable and may be shared; a session is one sequence with its KV cache.
  const auto model = bitnet::Model::load(path);
  bitnet::Session session(model);
  const bitnet::Tokenizer& tokenizer = model->require_tokenizer();
  const std::vector<int32_t> prompt = tokenizer.encode(text);

  bitnet::GenerateOptions options;
  options.max_tokens = 48;
  options.sampler = bitnet::SamplerOptions::greedy();
  const auto on_token = [](const bitnet::GenerateEvent& event) {
    std::printf("%.*s", static_cast<int>(event.text.size()), event.text.data());
    std::fflush(stdout);
    return true;  // false stops
  };
  std::printf("%s", text.c_str());
  const bitnet::GenerateResult result = bitnet::generate(session, prompt, options, on_token, &cancel);
  std::printf("\n%zu tokens, %.1f tokens/s, %s kernels\n", result.ids.size(),
              result.decode_tokens_per_second(), std::string(session.isa()).c_str());

  // The same session again, from the start: the logits after the prompt.
  session.truncate(0);
  const std::span<const float> logits = session.append(prompt);
  const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::printf("most likely next: \"%s\"\n", tokenizer.token_bytes(best).c_str());
} catch (const bitnet::Error& error) {
  std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
  return 1;
}
