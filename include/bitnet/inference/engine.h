#pragma once

#include "bitnet/inference/session.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace bitnet {

/// One sequence of tokens: its KV cache. Made by an Engine; may outlive it. Not thread-safe.
class Sequence {
 public:
  Sequence(Sequence&&) noexcept;
  Sequence& operator=(Sequence&&) noexcept;
  ~Sequence();

  [[nodiscard]] int64_t context() const;
  /// Tokens in the cache.
  [[nodiscard]] int64_t position() const;
  [[nodiscard]] int64_t kv_bytes() const;
  /// As Session::truncate and Session::shift.
  void truncate(int64_t position);
  void shift(int64_t keep, int64_t count);
  /// As Session::save and Session::load.
  void save(const std::filesystem::path& path, std::span<const int32_t> tokens) const;
  [[nodiscard]] std::vector<int32_t> load(const std::filesystem::path& path);

 private:
  friend class Engine;
  struct Impl;
  explicit Sequence(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Threads, kernels and scratch memory that compute any number of sequences of one model, several at once:
/// each pass reads the weights once for all of them. Not thread-safe; distinct engines are independent. A
/// sequence's logits do not depend on what else is computed with it. A Session is an Engine with one
/// Sequence.
class Engine {
 public:
  explicit Engine(std::shared_ptr<const Model> model, const SessionOptions& options = {});
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;
  ~Engine();

  [[nodiscard]] const Model& model() const;
  [[nodiscard]] std::string_view isa() const;
  [[nodiscard]] int threads() const;
  /// Tokens computed together at most.
  [[nodiscard]] int64_t batch() const;
  /// As Session::activations(), of all sequences.
  [[nodiscard]] const std::vector<LayerActivations>& activations() const;

  /// An empty sequence with the context and KV type of the options.
  [[nodiscard]] Sequence sequence() const;

  struct Append {
    Sequence* sequence;
    std::span<const int32_t> ids;
  };
  enum class Logits { kLast, kEvery };  ///< after the last token of each Append, or after every token
  /// Called with the Append's index, the token's index in its ids, and f32 [vocab_size], valid during the
  /// call.
  using Visit = std::function<void(size_t append, int64_t token, std::span<const float> logits)>;

  /// Appends tokens to the sequences, which must be distinct and this engine's, and visits logits in order.
  /// Throws kInvalidArgument (no tokens, a sequence twice or of another model), kOutOfRange (an id outside
  /// the vocabulary, past a context); nothing is appended then.
  void append(std::span<const Append> appends, Logits which, const Visit& visit);

  /// The same with the candidates of Session::append_top(): queries[i] is that of appends[i].
  using VisitTop = std::function<void(size_t append, int64_t token, std::span<const Candidate> candidates)>;
  void append_top(std::span<const Append> appends, std::span<const TopQuery> queries, Logits which,
                  const VisitTop& visit);

  /// A sequence that goes on with a token, which its sampler has accepted, and with those sampled behind it.
  struct Decode {
    Sequence* sequence;
    Sampler* sampler;
    int32_t token;
  };
  /// The tokens that a step has sampled, one of each Decode; false to go no further.
  using VisitTokens = std::function<bool(std::span<const int32_t> tokens)>;
  /// Step by step: appends each sequence's token, samples the next one, visits the samples, has the samplers
  /// accept them and goes on with them, until `visit` returns false or a context is full; the last samples
  /// are neither accepted nor appended. The tokens are those of append_top() and Sampler::sample(). On a GPU,
  /// greedy choices and chains of top-k, top-p, min-p and temperature are drawn there, and no step waits for
  /// the host: steps on their way when `visit` returns false are visited, too. Throws as append_top().
  void decode(std::span<const Decode> decodes, const VisitTokens& visit);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bitnet
