#include "bitnet/core/error.h"
#include "bitnet/core/half.h"
#include "bitnet/model/convert.h"
#include "model/config_rules.h"
#include "model/gguf_model.h"
#include "model/names.h"
#include "model/synth_gates.h"
#include "model/synth_tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>

namespace bitnet {
namespace {

/// A counter-based generator: any number of the sequence costs the same, so rows can be made in any order, on
/// any thread.   Source: SplitMix64, Steele, Lea and Flood, OOPSLA 2014.
uint64_t random_bits(uint64_t stream, uint64_t counter) {
  uint64_t z = stream + (counter + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// Four trits for every byte. 243 of the 256 values give each of the 81 quadruples three times; the other 13
/// go to quadruples spread over the range, so that each trit's share stays within 1 % of a third.
std::array<std::array<int8_t, 4>, 256> make_trit_table() {
  std::array<std::array<int8_t, 4>, 256> table{};
  for (int byte = 0; byte < 256; ++byte) {
    int number = byte < 243 ? byte % 81 : (byte - 243) * 81 / 13;
    for (int8_t& trit : table[static_cast<size_t>(byte)]) {
      trit = static_cast<int8_t>(number % 3 - 1);
      number /= 3;
    }
  }
  return table;
}

/// A linear layer of random trits with one scale.
class RandomSource final : public TernarySource {
 public:
  RandomSource(int64_t rows, int64_t cols, uint64_t stream) : rows_(rows), cols_(cols), stream_(stream) {
    // With inputs of unit variance, outputs have it too: cols * 2/3 * scale^2 = 1. Rounded to f16, so that
    // every output type holds the same.
    const double scale = std::sqrt(1.5 / static_cast<double>(cols));
    scale_ = f16_to_f32(f32_to_f16(static_cast<float>(scale)));
  }
  [[nodiscard]] Kind kind() const override { return Kind::kPacked; }
  [[nodiscard]] DType stored_dtype() const override { return DType::kTernary; }
  [[nodiscard]] int64_t rows() const override { return rows_; }
  [[nodiscard]] int64_t cols() const override { return cols_; }
  void drop_resident() const override {}

  void read_rows(int64_t first, int64_t count, std::span<int8_t> trits,
                 std::span<float> scales) const override {
    for (int64_t i = 0; i < count; ++i) {
      const auto row = trits.subspan(static_cast<size_t>(i * cols_), static_cast<size_t>(cols_));
      make_row(first + i, row);
      std::fill_n(row.begin(), negative_cols_, int8_t{-1});
      if (first + i < zero_rows_) std::fill(row.begin(), row.end(), int8_t{0});
      scales[static_cast<size_t>(i)] = scale_;
    }
  }
  void read_float_rows(int64_t, int64_t, std::span<float>) const override {
    throw Error(ErrorCode::kInternal, "random trits have no float weights");
  }
  /// The first columns are -1, the first rows 0 (ClosedGates).
  void set_negative_cols(int64_t count) { negative_cols_ = count; }
  void set_zero_rows(int64_t count) { zero_rows_ = count; }

 private:
  void make_row(int64_t row, std::span<int8_t> trits) const {
    static const auto table = make_trit_table();
    constexpr size_t kTritsPerWord = 32;
    const size_t words = (trits.size() + kTritsPerWord - 1) / kTritsPerWord;
    uint64_t counter = static_cast<uint64_t>(row) * words;
    std::array<int8_t, kTritsPerWord> made;
    for (size_t done = 0; done < trits.size(); done += kTritsPerWord) {
      const uint64_t bits = random_bits(stream_, counter++);
      for (size_t byte = 0; byte < 8; ++byte) {
        std::memcpy(made.data() + 4 * byte, table[(bits >> (8 * byte)) & 0xff].data(), 4);
      }
      std::memcpy(trits.data() + done, made.data(), std::min(kTritsPerWord, trits.size() - done));
    }
  }

  int64_t rows_, cols_, negative_cols_ = 0, zero_rows_ = 0;
  uint64_t stream_;
  float scale_ = 0;
};

/// Nearly normal values: sums of four 16-bit uniform ones, of which one word makes one.
void random_row(uint64_t stream, int64_t row, double deviation, std::span<float> values) {
  const double unit = deviation / (65536.0 * std::sqrt(4.0 / 12.0));
  uint64_t counter = static_cast<uint64_t>(row) * values.size();
  for (float& value : values) {
    const uint64_t bits = random_bits(stream, counter++);
    const int64_t sum =
        static_cast<int64_t>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
    value = static_cast<float>(static_cast<double>(sum - 2 * 65535) * unit);
  }
}

struct SynthPlan {
  std::vector<OutputTensor> tensors;
  std::vector<std::unique_ptr<RandomSource>> sources;
};

/// What a closed share of gates asks of one tensor.
void close_gates(const ClosedGates& gates, std::string_view name, uint64_t stream, RandomSource* source,
                 OutputTensor& tensor) {
  const int64_t channels = gates.channels();
  if (name == "token_embd.weight") {
    tensor.generate = [generate = tensor.generate, gates](int64_t row, std::span<float> values) {
      generate(row, values);
      std::fill_n(values.begin(), gates.channels(), gates.embedding());
    };
  } else if (name.ends_with(".ffn_gate.weight")) {
    source->set_negative_cols(channels);
  } else if (name.ends_with(".attn_output.weight") || name.ends_with(".ffn_down.weight")) {
    source->set_zero_rows(channels);
  } else if (name.ends_with(".attn_norm.weight")) {
    std::fill_n(tensor.values.begin(), channels, 0.0f);
  } else if (name.ends_with(".ffn_sub_norm.weight")) {
    random_row(stream, 0, ClosedGates::kSubNormSpread, tensor.values);
    // Mean square 1: the block's output keeps its variance.
    constexpr double kSpread = ClosedGates::kSubNormSpread;
    for (float& value : tensor.values) value = std::exp(value - static_cast<float>(kSpread * kSpread));
  }
}

SynthPlan plan_synth(const SynthOptions& options) {
  const ModelConfig& config = options.config;
  const bool permuted = architecture_defaults(config.architecture).permuted_in_gguf;
  SynthPlan plan;
  plan_rope_factors(config, plan.tensors);
  std::optional<ClosedGates> gates;
  if (options.closed_gates) gates.emplace(config, *options.closed_gates);
  uint64_t index = 0;
  for (const TensorRole& role : tensor_roles(config)) {
    const uint64_t stream = random_bits(options.seed, index++);
    OutputTensor& tensor = plan.tensors.emplace_back();
    tensor.name = role.name;
    tensor.shape = role.shape;
    if (role.kind == TensorKind::kLinear) {
      plan.sources.push_back(std::make_unique<RandomSource>(role.shape[0], role.shape[1], stream));
      tensor.linear = plan.sources.back().get();
      tensor.dtype = gguf_linear_type(options.linear_type);
      if (role.rotary && permuted) tensor.order = RowOrder::interleaved(config.head_dim);
    } else if (role.kind == TensorKind::kEmbedding) {
      tensor.dtype = gguf_embedding_type(options.embedding_type, DType::kF16);
      const double deviation = synth_embedding_deviation(config);
      tensor.generate = [stream, deviation](int64_t row, std::span<float> values) {
        random_row(stream, row, deviation, values);
      };
    } else {
      tensor.values.assign(static_cast<size_t>(role.shape[0]), 1.0f);
    }
    if (gates)
      close_gates(*gates, role.name, stream,
                  role.kind == TensorKind::kLinear ? plan.sources.back().get() : nullptr, tensor);
  }
  for (int64_t layer = 0; gates && layer < config.num_layers; ++layer) {
    const auto norm = std::find_if(plan.tensors.begin(), plan.tensors.end(), [&](const OutputTensor& tensor) {
      return tensor.name == layer_tensor(layer, "ffn_norm");
    });
    std::fill_n(norm->values.begin(), gates->channels(), gates->ffn_norm(layer));
  }
  return plan;
}

}  // namespace

void synthesize(const SynthOptions& options, const std::filesystem::path& output) {
  options.config.validate();
  const SynthPlan plan = plan_synth(options);
  for (const OutputTensor& tensor : plan.tensors)
    (void)output_bytes(tensor);  // refuses before anything is written
  const std::optional<TokenizerSpec> tokenizer = synth_tokenizer(options.config.vocab_size);
  (void)write_gguf_model(
      {options.config, tokenizer, tokenizer->bos, tokenizer->stop_tokens, options.linear_type}, plan.tensors,
      output, options.progress);
}

}  // namespace bitnet
