// The oracle: what a BitNet decoder computes, written as plainly as it can be. One token after another, one
// thread, decoded weights, sums in double. Every faster path is compared with it
// (tests/inference/reference_test.cpp).

#include "bitnet/core/error.h"
#include "bitnet/inference/session.h"
#include "bitnet/model/checkpoint.h"
#include "bitnet/quant/block_formats.h"
#include "inference/model_impl.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

namespace bitnet {
namespace {

using Vector = std::vector<float>;

/// y[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]
Vector rms_norm(const Vector& x, const Vector& weight, float eps) {
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * value;
  const auto scale = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(x.size()) + eps));
  Vector y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * weight[i];
  return y;
}

/// A ternary linear layer: y[n] = (sum_k q[k] * trit[n, k]) * (scale[n] / a), a = 127 / absmax, q = int8 of
/// x.
class ReferenceLinear {
 public:
  ReferenceLinear(const Checkpoint& checkpoint, int64_t layer, const std::string& name)
      : eps_(checkpoint.config().projection_norm_eps) {
    const TernarySource& source = checkpoint.linear(fmt::format("blk.{}.{}.weight", layer, name));
    rows_ = static_cast<size_t>(source.rows());
    cols_ = static_cast<size_t>(source.cols());
    trits_.resize(rows_ * cols_);
    scales_.resize(rows_);
    source.read_rows(0, source.rows(), trits_, scales_);
    if (checkpoint.config().projection_norms) {
      norm_ = read_dense(checkpoint.dense(fmt::format("blk.{}.{}_norm_in.weight", layer, name)));
    }
  }

  [[nodiscard]] Vector operator()(const Vector& input) const {
    const Vector x = norm_.empty() ? input : rms_norm(input, norm_, eps_);
    float absmax = 1e-5f;
    for (const float value : x) absmax = std::max(absmax, std::abs(value));
    const float a = 127.0f / absmax;
    std::vector<int> q(cols_);
    for (size_t k = 0; k < cols_; ++k) {
      q[k] = static_cast<int>(std::clamp(std::nearbyint(x[k] * a), -128.0f, 127.0f));
    }
    Vector y(rows_);
    for (size_t n = 0; n < rows_; ++n) {
      int64_t sum = 0;
      for (size_t k = 0; k < cols_; ++k) sum += q[k] * trits_[n * cols_ + k];
      y[n] = static_cast<float>(sum) * (scales_[n] / a);
    }
    return y;
  }

 private:
  size_t rows_ = 0, cols_ = 0;
  std::vector<int8_t> trits_;
  Vector scales_, norm_;
  float eps_;
};

struct ReferenceLayer {
  ReferenceLayer(const Checkpoint& checkpoint, int64_t index)
      : q(checkpoint, index, "attn_q"),
        k(checkpoint, index, "attn_k"),
        v(checkpoint, index, "attn_v"),
        output(checkpoint, index, "attn_output"),
        gate(checkpoint, index, "ffn_gate"),
        up(checkpoint, index, "ffn_up"),
        down(checkpoint, index, "ffn_down") {
    const auto norm = [&](const char* name) {
      return read_dense(checkpoint.dense(fmt::format("blk.{}.{}.weight", index, name)));
    };
    attn_norm = norm("attn_norm");
    ffn_norm = norm("ffn_norm");
    if (checkpoint.config().sub_norms) {
      attn_sub_norm = norm("attn_sub_norm");
      ffn_sub_norm = norm("ffn_sub_norm");
    }
  }

  ReferenceLinear q, k, v, output, gate, up, down;
  Vector attn_norm, ffn_norm, attn_sub_norm, ffn_sub_norm;
  std::vector<Vector> keys, values;  // of the tokens so far
};

class ReferenceDecoder {
 public:
  explicit ReferenceDecoder(const Checkpoint& checkpoint)
      : checkpoint_(checkpoint), config_(checkpoint.config()), inv_freq_(rope_inv_freq(config_)) {
    for (int64_t i = 0; i < config_.num_layers; ++i) layers_.emplace_back(checkpoint, i);
    output_norm_ = read_dense(checkpoint.dense("output_norm.weight"));
  }

  /// Logits after one more token.
  Vector next(int32_t id) {
    Vector x = dense_row("token_embd.weight", id);
    for (ReferenceLayer& layer : layers_) {
      add(x, attention(layer, rms_norm(x, layer.attn_norm, config_.rms_norm_eps)));
      add(x, ffn(layer, rms_norm(x, layer.ffn_norm, config_.rms_norm_eps)));
    }
    ++position_;
    const Vector hidden = rms_norm(x, output_norm_, config_.rms_norm_eps);
    Vector logits(static_cast<size_t>(config_.vocab_size));
    for (size_t n = 0; n < logits.size(); ++n) {
      const Vector row =
          dense_row(config_.tied_head ? "token_embd.weight" : "output.weight", static_cast<int64_t>(n));
      double sum = 0;
      for (size_t k = 0; k < row.size(); ++k) sum += static_cast<double>(row[k]) * hidden[k];
      logits[n] = static_cast<float>(sum);
    }
    return logits;
  }

 private:
  static void add(Vector& x, const Vector& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  [[nodiscard]] Vector dense_row(const char* name, int64_t row) const {
    const DenseSource& source = checkpoint_.dense(name);
    const auto row_bytes = source.bytes.size() / static_cast<size_t>(source.shape.at(0));
    Vector values(static_cast<size_t>(source.shape.at(1)));
    dequantize_row(source.dtype, source.bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes),
                   values);
    return values;
  }

  /// Half-split RoPE: element i of a head turns with element i + d/2.
  void rotate(Vector& x) const {
    const auto dim = static_cast<size_t>(config_.head_dim), half = dim / 2;
    Vector cos(half), sin(half);
    rope_angles(inv_freq_, static_cast<float>(position_), cos.data(), sin.data());
    for (size_t head = 0; head < x.size(); head += dim) {
      for (size_t i = 0; i < half; ++i) {
        const float a = x[head + i], b = x[head + half + i];
        x[head + i] = a * cos[i] - b * sin[i];
        x[head + half + i] = b * cos[i] + a * sin[i];
      }
    }
  }

  Vector attention(ReferenceLayer& layer, const Vector& x) const {
    Vector q = layer.q(x), k = layer.k(x);
    rotate(q);
    rotate(k);
    layer.keys.push_back(std::move(k));
    layer.values.push_back(layer.v(x));
    const auto dim = static_cast<size_t>(config_.head_dim);
    const auto group = static_cast<size_t>(config_.num_heads / config_.num_kv_heads);
    Vector out(q.size());
    for (size_t head = 0; head < static_cast<size_t>(config_.num_heads); ++head) {
      const size_t from = head * dim, kv_from = head / group * dim;
      std::vector<double> weights(layer.keys.size());
      for (size_t p = 0; p < weights.size(); ++p) {
        double score = 0;
        for (size_t i = 0; i < dim; ++i)
          score += static_cast<double>(q[from + i]) * layer.keys[p][kv_from + i];
        weights[p] = score / std::sqrt(static_cast<double>(dim));
      }
      const double highest = *std::max_element(weights.begin(), weights.end());
      double total = 0;
      for (double& weight : weights) total += weight = std::exp(weight - highest);
      for (size_t i = 0; i < dim; ++i) {
        double sum = 0;
        for (size_t p = 0; p < weights.size(); ++p) sum += weights[p] / total * layer.values[p][kv_from + i];
        out[from + i] = static_cast<float>(sum);
      }
    }
    if (!layer.attn_sub_norm.empty()) out = rms_norm(out, layer.attn_sub_norm, config_.rms_norm_eps);
    return layer.output(out);
  }

  Vector ffn(const ReferenceLayer& layer, const Vector& x) const {
    const Vector gate = layer.gate(x), up = layer.up(x);
    Vector h(gate.size());
    for (size_t i = 0; i < h.size(); ++i) {
      const float g = gate[i];
      const float relu = std::max(g, 0.0f);
      h[i] = (config_.activation == Activation::kRelu2 ? relu * relu : g / (1 + std::exp(-g))) * up[i];
    }
    if (!layer.ffn_sub_norm.empty()) h = rms_norm(h, layer.ffn_sub_norm, config_.rms_norm_eps);
    return layer.down(h);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  Vector inv_freq_, output_norm_;
  std::vector<ReferenceLayer> layers_;
  int64_t position_ = 0;
};

}  // namespace

std::vector<float> reference_logits(const std::filesystem::path& model, std::span<const int32_t> ids) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const ModelConfig& config = checkpoint.config();
  if (static_cast<int64_t>(ids.size()) > config.max_position) {
    throw Error(ErrorCode::kOutOfRange,
                fmt::format("{} tokens; the model takes at most {}", ids.size(), config.max_position));
  }
  ReferenceDecoder decoder(checkpoint);
  std::vector<float> all;
  for (const int32_t id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      throw Error(ErrorCode::kOutOfRange,
                  fmt::format("token id {} is outside the vocabulary [0, {})", id, config.vocab_size));
    }
    const Vector logits = decoder.next(id);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

}  // namespace bitnet
