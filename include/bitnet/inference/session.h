#pragma once

#include "bitnet/core/dtype.h"
#include "bitnet/inference/model.h"
#include "bitnet/inference/sampler.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bitnet {

struct SessionOptions {
  int threads = 0;              ///< 0: all available
  std::string isa;              ///< "" = BITNET_ISA or the best; "scalar", "avx2", "avx512vnni", "neon"
  int64_t context = 0;          ///< tokens the KV cache can hold; 0: the model's max_position
  DType kv_type = DType::kF32;  ///< kF32, kF16 or kI8
  int64_t batch = 0;            ///< tokens computed together in prefill; 0: 512, on a GPU up to 2048
  bool exact_head = false;      ///< append_top() computes all logits: the same results, slower
  /// "cpu"; "cuda" or "cuda:N": that GPU or an error; "cuda:N,M,...": several GPUs share the model, or an
  /// error; "auto": GPU 0 if there is one that can run the model and no isa is named, else the processor (the
  /// reason is logged).
  std::string device = "cpu";
  /// Called while the first session on a GPU uploads the weights, and while the first one on the processor
  /// lays them out where loading has deferred that: bytes done and in all.
  std::function<void(int64_t done, int64_t total)> progress;
};

/// What squared ReLU left of a layer's feed-forward block, added up over the tokens computed.
struct LayerActivations {
  int64_t gates = 0;           ///< outputs of gate
  int64_t open_gates = 0;      ///< ... that are not closed: rows of up that are needed
  int64_t nonzero_inputs = 0;  ///< int8 inputs of down that are not zero, of as many
};

/// One sequence: a KV cache and the scratch memory of a forward pass. Not thread-safe; distinct sessions are
/// independent. The logits do not depend on the thread count, the batch size, the instruction set or
/// (docs/CUDA.md has the exceptions) the device.
class Session {
 public:
  explicit Session(std::shared_ptr<const Model> model, const SessionOptions& options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  [[nodiscard]] const Model& model() const;
  /// The kernels in use: an instruction set, or "cuda".
  [[nodiscard]] std::string_view isa() const;
  [[nodiscard]] int threads() const;
  [[nodiscard]] int64_t context() const;
  /// Tokens in the cache.
  [[nodiscard]] int64_t position() const;
  [[nodiscard]] int64_t kv_bytes() const;
  /// Of each layer; empty for models without squared ReLU, those loaded with sparse off, and on a GPU.
  [[nodiscard]] const std::vector<LayerActivations>& activations() const;

  /// Appends the tokens and returns the logits after the last one, f32 [vocab_size], valid until the next
  /// call. Throws kInvalidArgument (no tokens), kOutOfRange (an id outside the vocabulary, or past the
  /// context; nothing is appended then).
  std::span<const float> append(std::span<const int32_t> ids);
  /// The same with the logits after every token, f32 [ids.size(), vocab_size] row-major.
  std::vector<float> append_all_logits(std::span<const int32_t> ids);
  /// The same, handing over each token's logits in order without holding them all.
  void append_each(std::span<const int32_t> ids,
                   const std::function<void(int64_t index, std::span<const float> logits)>& visit);

  /// Appends the tokens and returns those logits after the last one that the query names, perhaps with more,
  /// in order of id, valid until the next call: bit for bit those of append(), at a fraction of the time.
  /// Throws as append(), kInvalidArgument (k < 1), kOutOfRange (an id of `always` outside the vocabulary).
  std::span<const Candidate> append_top(std::span<const int32_t> ids, const TopQuery& query);
  /// The same with the logits after every token.
  void append_top_each(
      std::span<const int32_t> ids, const TopQuery& query,
      const std::function<void(int64_t index, std::span<const Candidate> candidates)>& visit);

  /// Engine::decode() of this sequence: goes on with `token`, which the sampler has accepted, until `visit`
  /// returns false or the context is full. On a GPU, a step that is on its way then is visited, too.
  void decode(Sampler& sampler, int32_t token, const std::function<bool(int32_t token)>& visit);

  /// Forgets all tokens from `position` on. Throws kOutOfRange if position > position().
  void truncate(int64_t position);
  /// Context shift: forgets the tokens [keep, keep + count) and moves the later ones down (their keys are
  /// rotated to the new positions).
  void shift(int64_t keep, int64_t count);

  /// Saves what the first tokens.size() tokens left in the cache; `tokens` are they. Replaces the file
  /// atomically. Throws kInvalidArgument (more tokens than position()), kIo.
  void save(const std::filesystem::path& path, std::span<const int32_t> tokens) const;
  /// Puts what save() wrote in place of the cache's content and returns the tokens; position() is their
  /// number. What follows is bit for bit as if they had been appended here. Throws kNotFound, kIo,
  /// kCorruptData (no such file, damaged), kUnsupported (another model, KV type, more tokens than the
  /// context); the cache is then as before.
  [[nodiscard]] std::vector<int32_t> load(const std::filesystem::path& path);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The slow, obvious forward pass that everything else is checked against: one thread, plain loops over
/// decoded weights, the same arithmetic as docs/NUMERICS.md. Returns f32 [ids.size(), vocab_size].
[[nodiscard]] std::vector<float> reference_logits(const std::filesystem::path& model,
                                                  std::span<const int32_t> ids);

}  // namespace bitnet
