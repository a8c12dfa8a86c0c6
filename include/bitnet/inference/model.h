#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/model/config.h"
#include "bitnet/quant/packed_ternary.h"
#include "bitnet/tokenizer/chat_template.h"
#include "bitnet/tokenizer/tokenizer.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bitnet {

struct LoadOptions {
  int threads = 0;  ///< for loading; 0: all available
  /// Called with bytes repacked and bytes in all.
  std::function<void(int64_t done, int64_t total)> progress;
  /// Models with squared ReLU: lay the feed-forward weights out so that what is multiplied by zero can be
  /// left out. Results are the same bits without; this is for comparison.
  bool sparse = true;
  /// How matrices that are multiplied as wholes lie: kBlocks or kTight (quant/packed_ternary.h). Results are
  /// the same bits. Without: kTight where measured_layouts() of these threads finds it faster and the model
  /// is too large for a cache.
  std::optional<TernaryLayout> layout;
  std::string isa;  ///< kernels of the sessions to come (SessionOptions::isa), for that choice
  /// Lay out a copy of the output head in six bits, in which append_top() finds the candidates. Without it,
  /// every logit is computed from the file's head: the same tokens, slower, from less memory.
  bool head_copy = true;
  /// A file that keeps the weights as they are laid out for the processor, so that the next load copies them
  /// instead: read if it was made from these model files with this head_copy and these layouts, or without a
  /// given `layout` by these kernels; else written. Empty: none.
  std::filesystem::path weights_cache;
  /// Lay the weights out for the processor when a session first runs there, not while loading: a model that
  /// GPUs alone run then takes no memory for that, and a weight that is damaged is found by the first
  /// session. The head is scanned from the file's type until then, so weight_bytes() and decode_bytes() are
  /// those without copy.
  bool defer_layout = false;
};

/// A model ready to run: weights in the kernels' layout, embedding and head as in the file (mapped).
/// Immutable and shareable: any number of Sessions on any threads may use it at once.
class Model {
 public:
  /// A .gguf file or Hugging Face folder. Throws as Checkpoint::open does, kInvalidArgument on a layout
  /// other than the two; for a weights_cache kIo where it cannot be written, kCorruptData where it is no such
  /// file or damaged, kUnsupported where it is another model's.
  static std::shared_ptr<const Model> load(const std::filesystem::path& path,
                                           const LoadOptions& options = {});
  ~Model();

  [[nodiscard]] const ModelConfig& config() const;
  [[nodiscard]] const std::filesystem::path& path() const;
  /// Null if the file holds no tokenizer.
  [[nodiscard]] const Tokenizer* tokenizer() const;
  /// Throws kUnsupported with a hint if there is none.
  [[nodiscard]] const Tokenizer& require_tokenizer() const;
  [[nodiscard]] const std::vector<int32_t>& stop_tokens() const;
  [[nodiscard]] ChatTemplate chat_template() const;
  /// Bytes of the weights as the processor's kernels read them, and of the embedding and head; without a copy
  /// of the head where its layout is deferred, as in decode_bytes().
  [[nodiscard]] int64_t weight_bytes() const;
  /// Bytes of weights that one decoded token reads: all linear layers, and the head as append_top() scans it.
  [[nodiscard]] int64_t decode_bytes() const;
  /// How the matrices that are multiplied as wholes lie.
  [[nodiscard]] TernaryLayout layout() const;
  /// Element type of the head's matrix.
  [[nodiscard]] DType head_type() const;

  struct Impl;  // src/inference/model_impl.h
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  Model();
  std::unique_ptr<Impl> impl_;
};

}  // namespace bitnet
